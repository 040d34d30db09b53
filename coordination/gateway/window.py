"""One client's messages in flight, and its known position. Pure: time is passed in, and there is no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from coordination.errors import Conflict
from coordination.messages import Message, Position, Taken

LARGE = 128 * 1024
"""Characters of one read of the inbox beyond which the next read takes a single message."""


@dataclass(frozen=True, kw_only=True)
class Welcome:
    """State of the inbox that a client must get before further messages."""

    position: Position
    recovered: bool
    missed: int


@dataclass(kw_only=True)
class InFlightMessage:
    """A message in flight to or at a client, without its payload, so that a slow client costs no memory for
    it.
    """

    message: Message
    known: Position
    """Position that the client knew when this message was sent; acknowledging it confirms that position."""
    since_s: float


class Window:
    """Messages in flight. `since` is the client's position when it connected."""

    def __init__(self, size: int, since: Position | None) -> None:
        self.since = since
        """Last position that the client has certainly read."""
        self._size = size
        self._at_once = 1
        self._known: Position | None = None
        self._in_flight: dict[str, InFlightMessage] = {}

    @property
    def room(self) -> int:
        """Number of messages to take now; few if messages are large, so that few wait here for the client."""
        return min(self._size - len(self._in_flight), self._at_once)

    @property
    def held(self) -> tuple[Message, ...]:
        return tuple(held.message for held in self._in_flight.values())

    def observe(self, taken: Taken, *, anew: bool = False) -> Welcome | None:
        """Return the welcome that the client needs before the messages; None if the inbox has not changed,
        unless `anew`.
        """
        before, self._known = self._known, taken.position
        if before is None:
            return Welcome(position=taken.position, recovered=taken.recovered, missed=taken.trimmed)
        if before.epoch != taken.epoch or before.offset > taken.offset:
            return Welcome(position=taken.position, recovered=False, missed=0)
        missed = taken.position.trimmed - before.trimmed
        if missed or anew:
            return Welcome(position=taken.position, recovered=not missed, missed=missed)
        return None

    def hold(self, messages: Iterable[Message], now_s: float) -> None:
        """Add messages that are sent to the client now."""
        assert self._known is not None
        for message in messages:
            self._in_flight.pop(message.id, None)  # an earlier delivery, which this one replaces
            if message.wants_ack:
                self._in_flight[message.id] = InFlightMessage(
                    message=replace(message, payload=None), known=self._known, since_s=now_s
                )

    def adapt_batch_size(self, characters: int) -> None:
        """Adapt the batch size to the size of the messages taken last."""
        self._at_once = 1 if characters > LARGE else min(2 * self._at_once, self._size)

    def of(self, message_id: str) -> Message:
        """Return a message in flight. Raises Conflict if the client does not have it."""
        if message_id not in self._in_flight:
            raise Conflict(
                f"message {message_id[:100]} is not in flight",
                "it is delivered again unless it was acknowledged",
            )
        return self._in_flight[message_id].message

    def done(self, message_id: str) -> None:
        """Remove an acknowledged message, and take over the position that its acknowledgement confirms."""
        known = self._in_flight.pop(message_id).known
        if self.since is None or self.since.epoch != known.epoch or _is_further(known, self.since):
            self.since = known

    def extended(self, message_id: str, now_s: float) -> None:
        """Start the idle time of a message anew."""
        self._in_flight[message_id].since_s = now_s

    def dropped(self, offsets: Collection[int]) -> None:
        """Remove messages that the client no longer has."""
        self._in_flight = {
            name: held for name, held in self._in_flight.items() if held.message.offset not in offsets
        }

    def behind_oldest(self, now_s: float, idle_s: float) -> tuple[Message, ...]:
        """Return the messages behind the oldest one, which the gateway extends now.

        The client itself extends the oldest one: without a frame about it for the idle time, it is removed.
        """
        oldest = next(iter(self._in_flight.values()), None)
        if oldest is None:
            return ()
        if now_s - oldest.since_s > idle_s:
            del self._in_flight[oldest.message.id]
        others = [held for held in self._in_flight.values() if held is not oldest]
        for held in others:
            held.since_s = now_s
        return tuple(held.message for held in others)


def _is_further(one: Position, other: Position) -> bool:
    return (one.offset, one.trimmed) > (other.offset, other.trimmed)
