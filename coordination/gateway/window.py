"""What one client has in hand, and what it knows of its inbox. Pure: it is told the time, and does nothing itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from coordination.errors import Conflict
from coordination.messages import Message, Position, Taken

LARGE = 128 * 1024
"""Characters of one answer of the inbox: after more than that, the next asks for one message alone."""


@dataclass(frozen=True, kw_only=True)
class Welcome:
    """What a client must be told of its inbox before it gets anything more."""

    position: Position
    recovered: bool
    missed: int


@dataclass(kw_only=True)
class Held:
    """A message under way to a client, or with it. Its payload is let go: a slow client costs no memory for it."""

    message: Message
    told: Position
    """What the client knew of its inbox when this was said to it: who acknowledges it has read so far."""
    since_s: float


class Window:
    """`since`: the position with which the client came."""

    def __init__(self, size: int, since: Position | None) -> None:
        self.since = since
        """The last position that the client has certainly read."""
        self._size = size
        self._at_once = 1
        self._told: Position | None = None
        self._held: dict[str, Held] = {}

    @property
    def room(self) -> int:
        """How many may be taken at once now: few, where messages are large, so that few wait here for their client."""
        return min(self._size - len(self._held), self._at_once)

    @property
    def held(self) -> tuple[Message, ...]:
        return tuple(held.message for held in self._held.values())

    def looked(self, taken: Taken, *, anew: bool = False) -> Welcome | None:
        """What has happened to the inbox since the client was told of it; None where it knows all, unless `anew`."""
        before, self._told = self._told, taken.position
        if before is None:
            return Welcome(position=taken.position, recovered=taken.recovered, missed=taken.trimmed)
        if before.epoch != taken.epoch or before.offset > taken.offset:
            return Welcome(position=taken.position, recovered=False, missed=0)
        missed = taken.position.trimmed - before.trimmed
        if missed or anew:
            return Welcome(position=taken.position, recovered=not missed, missed=missed)
        return None

    def hold(self, messages: Iterable[Message], now_s: float) -> None:
        assert self._told is not None
        for message in messages:
            self._held.pop(message.id, None)  # an earlier delivery of it; this one counts
            if message.wants_ack:
                self._held[message.id] = Held(message=replace(message, payload=None), told=self._told, since_s=now_s)

    def measured(self, characters: int) -> None:
        """So long were the messages that were taken last."""
        self._at_once = 1 if characters > LARGE else min(2 * self._at_once, self._size)

    def of(self, message_id: str) -> Message:
        """Raises Conflict for what the client does not have in hand."""
        if message_id not in self._held:
            raise Conflict(
                f"message {message_id[:100]} is not in your hands", "if nobody is done with it, it is delivered again"
            )
        return self._held[message_id].message

    def done(self, message_id: str) -> None:
        told = self._held.pop(message_id).told
        if self.since is None or self.since.epoch != told.epoch or _further(told, self.since):
            self.since = told

    def extended(self, message_id: str, now_s: float) -> None:
        self._held[message_id].since_s = now_s

    def dropped(self, offsets: Collection[int]) -> None:
        """They are not the client's any more."""
        self._held = {name: held for name, held in self._held.items() if held.message.offset not in offsets}

    def behind(self, now_s: float, idle_s: float) -> tuple[Message, ...]:
        """What waits behind the oldest message, to be extended now. The oldest is the client's affair: without a word about
        it for the idle time it is not the client's any more.
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


def _further(one: Position, other: Position) -> bool:
    return (one.offset, one.trimmed) > (other.offset, other.trimmed)
