"""One client's topics: subscriptions, waiting events, and the right and rate to publish."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from coordination.errors import Conflict, NotAllowed, UsageError
from coordination.gateway import frames
from coordination.gateway.limits import Limits
from coordination.messages import topics
from coordination.messages.topics import Patterns

Say = Callable[[str], Awaitable[None]]


class ClientTopics:
    """`granted`: patterns that the token allows; `here`: all clients of this gateway by pattern."""

    def __init__(
        self, here: Patterns[ClientTopics], granted: Sequence[str], limits: Limits, say: Say
    ) -> None:
        self._here, self._granted, self._limits, self._say = here, granted, limits, say
        self._patterns: set[str] = set()
        self._waiting: deque[str] = deque()
        self._characters = 0
        self._missed: int | None = 0
        """Number of dropped events; None if it is unknown."""
        self._something = asyncio.Event()
        self._allowance = float(limits.publish_burst)
        self._counted_at = time.monotonic()

    async def subscribe(self, wanted: Sequence[str]) -> None:
        """Subscribe to all patterns or none. Raises UsageError, NotAllowed, Conflict."""
        new = {topics.pattern(one) for one in wanted} - self._patterns
        for one in sorted(new):
            # everything (`**`) is everything that clients publish
            of_coord = topics.is_of_coord(one)
            fitting = [granted for granted in self._granted if topics.is_of_coord(granted) or not of_coord]
            if not any(topics.covers(granted, one) for granted in fitting):
                raise NotAllowed(f"your token does not allow the topics {one!r}", self._hint)
        if len(self._patterns) + len(new) > self._limits.subscriptions:
            raise Conflict(
                f"more than {self._limits.subscriptions} subscriptions",
                "unsubscribe from some, or use one like a.**",
            )
        self._patterns |= new
        for one in new:
            self._here.add(one, self)
        await self._say(frames.subscribed(sorted(self._patterns)))

    async def unsubscribe(self, wanted: Sequence[str]) -> None:
        self._leave(self._patterns & set(wanted))
        await self._say(frames.subscribed(sorted(self._patterns)))

    def may_publish(self, topic: str) -> None:
        """Check a publication. Raises UsageError, NotAllowed, and Conflict if the rate is exceeded."""
        topics.topic(topic)
        reserved = topic in topics.RESERVED or topics.is_of_coord(topic)
        if reserved or not any(topics.fits(granted, topic) for granted in self._granted):
            raise NotAllowed(f"your token does not allow the topic {topic!r}", self._hint)
        now = time.monotonic()
        most, per_s = self._limits.publish_burst, self._limits.publish_per_s
        self._allowance = min(most, self._allowance + (now - self._counted_at) * per_s)
        self._counted_at = now
        if self._allowance < 1:
            raise Conflict(f"more than {per_s} events a second", "publish it again later, or less often")
        self._allowance -= 1

    def hear(self, event: str) -> None:
        """Queue an event; if the client is slow, the oldest ones are dropped, which is reported to it."""
        self._waiting.append(event)
        self._characters += len(event)
        while len(self._waiting) > self._limits.events or self._characters > self._limits.event_characters:
            self._characters -= len(self._waiting.popleft())
            self._missed = None if self._missed is None else self._missed + 1
        self._something.set()

    def wants_of_coord(self, topic: str) -> bool:
        """Return whether a pattern that names the events of coord matches; `**` does not name them."""
        return any(topics.is_of_coord(one) and topics.fits(one, topic) for one in self._patterns)

    def gap(self) -> None:
        """Record a gap of unknown size after an outage of Redis."""
        if self._patterns:
            self._missed = None
            self._something.set()

    async def tell(self) -> None:
        """Send waiting events, for ever."""
        while True:
            await self._something.wait()
            self._something.clear()
            while self._waiting or self._missed != 0:
                if self._missed != 0:
                    missed, self._missed = self._missed, 0
                    await self._say(frames.gap(missed))
                elif self._waiting:
                    event = self._waiting.popleft()
                    self._characters -= len(event)
                    await self._say(event)

    def close(self) -> None:
        self._leave(set(self._patterns))

    def _leave(self, gone: set[str]) -> None:
        self._patterns -= gone
        for one in gone:
            self._here.remove(one, self)

    @property
    def _hint(self) -> str:
        return (
            f"it allows {', '.join(self._granted)[:200] or 'none'}; "
            "ask for another: coord gateway --grant YOU --topics PATTERN"
        )


def validated_patterns(granted: Sequence[str]) -> list[str]:
    """Return the patterns of a grant. Raises UsageError."""
    if len(granted) > MOST_GRANTED:
        raise UsageError(f"{len(granted)} patterns for one token", f"use at most {MOST_GRANTED}, like a.**")
    return sorted({topics.pattern(one) for one in granted})


MOST_GRANTED = 50
