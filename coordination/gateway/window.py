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
    """News about the inbox that a client must get before further messages."""

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
        self._held: dict[str, InFlightMessage] = {}

    @property
    def room(self) -> int:
        """Number of messages to take now; few if messages are large, so that few wait here for the client."""
        return min(self._size - len(self._held), self._at_once)

    @property
    def held(self) -> tuple[Message, ...]:
        return tuple(held.message for held in self._held.values())

    def observe(self, taken: Taken, *, anew: bool = False) -> Welcome | None:
        """Return changes of the inbox that the client was not told of; None if there are
        none, unless `anew`.
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
        assert self._known is not None
        for message in messages:
            self._held.pop(message.id, None)  # an earlier delivery, which this one replaces
            if message.wants_ack:
                self._held[message.id] = InFlightMessage(
                    message=replace(message, payload=None), known=self._known, since_s=now_s
                )

    def adapt_batch_size(self, characters: int) -> None:
        """Adapt the batch size to the size of the messages taken last."""
        self._at_once = 1 if characters > LARGE else min(2 * self._at_once, self._size)

    def of(self, message_id: str) -> Message:
        """Return a message in flight. Raises Conflict if the client does not have it."""
        if message_id not in self._held:
            raise Conflict(
                f"message {message_id[:100]} is not in flight",
                "it is delivered again unless it was acknowledged",
            )
        return self._held[message_id].message

    def done(self, message_id: str) -> None:
        known = self._held.pop(message_id).known
        if self.since is None or self.since.epoch != known.epoch or _is_further(known, self.since):
            self.since = known

    def extended(self, message_id: str, now_s: float) -> None:
        self._held[message_id].since_s = now_s

    def dropped(self, offsets: Collection[int]) -> None:
        """Remove messages that the client no longer has."""
        self._held = {name: held for name, held in self._held.items() if held.message.offset not in offsets}

    def behind_oldest(self, now_s: float, idle_s: float) -> tuple[Message, ...]:
        """Return the messages behind the oldest one, which are to be extended now.

        The oldest is the client's responsibility: without a frame about it for the idle time, it is removed.
        """
        oldest = next(iter(self._held.values()), None)
        if oldest is None:
            return ()
        if now_s - oldest.since_s > idle_s:
            del self._held[oldest.message.id]
        others = [held for held in self._held.values() if held is not oldest]
        for held in others:
            held.since_s = now_s
        return tuple(held.message for held in others)


def _is_further(one: Position, other: Position) -> bool:
    return (one.offset, one.trimmed) > (other.offset, other.trimmed)
