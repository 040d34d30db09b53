"""Limits of the gateway, the window of a client's messages in flight, and the reasons for which a session
ends, as WebSocket close codes (own ones from 4000). Pure: time is passed in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from coordination.errors import Conflict
from coordination.messages import Message, Position, Taken

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Limits:
    window: int = 32
    """Messages in flight per client; beyond it the inbox is not read."""
    frame_bytes: int = 2 * MIB
    """Longest frame of a client; a payload of 1 MiB fits, escaped as most clients do."""
    send_s: float = 20
    """Time that a client may take to read a frame before it is disconnected."""
    ping_s: float = 20
    """Time between two pings, and time to answer one before the client is disconnected."""
    hello_s: float = 10
    """Time until a client's first frame."""
    interval_s: float = 1
    """Delay that a lost wake-up causes at most."""
    clients: int = 2000
    """Connected clients; further ones are told to retry later."""
    tries: int = 10
    """Wrong tokens per recipient and address within a minute; further ones are logged and
    checked one by one.
    """
    proxies: tuple[str, ...] = ()
    """Networks of proxies whose X-Forwarded-For names the client's address."""
    subscriptions: int = 100
    """Patterns of topics per client."""
    events: int = 256
    """Events that wait for a client that does not read; beyond it the oldest ones are dropped."""
    event_characters: int = 2 * MIB
    """Characters of these events; beyond it the oldest ones are dropped."""
    publish_per_s: int = 100
    """Events that one client may publish per second."""
    publish_burst: int = 200
    """Events that one client may publish at once."""


@dataclass(frozen=True)
class CloseReason:
    code: int
    text: str
    """Reason as text; a close frame has room for 123 bytes."""


POLICY = CloseReason(1008, "")
"""A wrong or revoked token. The client needs a new one; guessing clients get no further information."""
LATER = CloseReason(1013, "try again later")
"""Too many clients, or Redis is unreachable and no client can be admitted."""
BAD_FRAME = CloseReason(4000, "invalid frame for coord.v1")
TAKEN_OVER = CloseReason(4001, "the same recipient connected elsewhere")
TOO_SLOW = CloseReason(4002, "frames were not read in time")
GONE = CloseReason(1000, "")
"""The client closed, or its connection broke."""


class Left(Exception):
    """Ends a session; not an error."""

    def __init__(self, reason: CloseReason) -> None:
        self.reason = reason
        super().__init__(reason.text)


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
    position: Position
    """Position that the client knew when this message was sent; acknowledging it confirms that position."""
    since_s: float


class Window:
    """Messages in flight. `since` is the client's position when it connected."""

    def __init__(self, size: int, since: Position | None) -> None:
        self.since = since
        """Last position that the client has certainly read."""
        self._size = size
        self._at_once = 1
        self._position: Position | None = None
        self._in_flight: dict[str, InFlightMessage] = {}

    @property
    def room(self) -> int:
        """Number of messages to take now; few if messages are large, so that few wait here for the client."""
        return min(self._size - len(self._in_flight), self._at_once)

    @property
    def messages(self) -> tuple[Message, ...]:
        """Return the messages in flight, oldest first."""
        return tuple(entry.message for entry in self._in_flight.values())

    def observe(self, taken: Taken, *, anew: bool = False) -> Welcome | None:
        """Return the welcome that the client needs before the messages; None if the inbox has not changed,
        unless `anew`.
        """
        before, self._position = self._position, taken.position
        if before is None:
            return Welcome(position=taken.position, recovered=taken.recovered, missed=taken.trimmed)
        if before.epoch != taken.epoch or before.offset > taken.offset:
            return Welcome(position=taken.position, recovered=False, missed=0)
        missed = taken.position.trimmed - before.trimmed
        if missed or anew:
            return Welcome(position=taken.position, recovered=not missed, missed=missed)
        return None

    def add(self, messages: Iterable[Message], now_s: float) -> None:
        """Add messages that are sent to the client now."""
        assert self._position is not None
        for message in messages:
            self._in_flight.pop(message.id, None)  # an earlier delivery, which this one replaces
            if message.wants_ack:
                self._in_flight[message.id] = InFlightMessage(
                    message=replace(message, payload=None), position=self._position, since_s=now_s
                )

    def adapt_batch_size(self, characters: int) -> None:
        """Adapt the batch size to the size of the messages taken last."""
        self._at_once = 1 if characters > LARGE else min(2 * self._at_once, self._size)

    def message(self, message_id: str) -> Message:
        """Return a message in flight. Raises Conflict if the client does not have it."""
        if message_id not in self._in_flight:
            raise Conflict(
                f"message {message_id[:100]} is not in flight",
                "it is delivered again unless it was acknowledged",
            )
        return self._in_flight[message_id].message

    def acknowledge(self, message_id: str) -> None:
        """Remove an acknowledged message, and take over the position that its acknowledgement confirms."""
        read = self._in_flight.pop(message_id).position
        if self.since is None or self.since.epoch != read.epoch or _is_further(read, self.since):
            self.since = read

    def extend(self, message_id: str, now_s: float) -> None:
        """Start the idle time of a message anew."""
        self._in_flight[message_id].since_s = now_s

    def drop(self, offsets: Collection[int]) -> None:
        """Remove messages that the client no longer has."""
        self._in_flight = {
            name: entry for name, entry in self._in_flight.items() if entry.message.offset not in offsets
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
        others = [entry for entry in self._in_flight.values() if entry is not oldest]
        for entry in others:
            entry.since_s = now_s
        return tuple(entry.message for entry in others)


def _is_further(one: Position, other: Position) -> bool:
    return (one.offset, one.trimmed) > (other.offset, other.trimmed)
