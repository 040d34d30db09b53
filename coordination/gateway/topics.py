"""One client's topics: subscriptions, waiting events, and the right and rate to publish.

Topics of clients are live. The events of coord (`events.KIND`) can also be repeated from a position. Their
states, for each client:

* live: events that the gateway passes on are queued, if they come after `_live_after`.
* repeating: events are read from the stream, at the pace of the client; events that are passed on meanwhile
  are not queued. Repeating ends when the client has read everything that was passed on. So each event is sent
  once, in order.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from coordination.backend.client import reaching
from coordination.errors import Conflict, CoordinationError, NotAllowed, Unusable, UsageError
from coordination.events.kinds import GAP
from coordination.events.records import BEGINNING, Batch, place
from coordination.events.records import Event as StreamEvent
from coordination.events.stream import EventStream
from coordination.gateway import frames
from coordination.gateway.limits import Limits
from coordination.messages import topics
from coordination.messages.topics import OF_COORD, Event, Patterns

READ_AT_ONCE = 50
"""Events that are read for a client at once: one may have 256 KiB."""
BEHIND_S = 0.05
"""Pause while the stream lacks an event that was passed on, because Redis lost its data."""

SendFrame = Callable[[str], Awaitable[None]]
Read = Callable[[str], Awaitable[Batch]]


def topic_event(event: StreamEvent) -> Event:
    """Return an event of coord as one of a topic; its id is the place in the stream."""
    payload = {
        "kind": event.kind,
        "subject": event.subject,
        "run": event.run,
        "actor": event.actor,
        "repos": event.repos,
        "title": event.title,
        "data": event.data,
    }
    return Event(
        id=event.id,
        topic=f"{OF_COORD}.{event.kind}",
        type=event.kind,
        payload=payload,
        sender="coord",
        at=event.at,
    )


class GatewayTopics:
    """The topics of all clients of a gateway, and the events of coord."""

    def __init__(self, stream: EventStream, url: str) -> None:
        """`url`: the address of Redis, for error messages."""
        self.patterns = Patterns[ClientTopics]()
        self.position = ""
        """Id of the last event of coord that was passed on; empty until the first round."""
        self._stream, self._url = stream, url

    def read(self, since: str) -> Batch:
        """Return the events of coord after the position. Raises Unreachable; Conflict without the right."""
        try:
            with reaching(self._url):
                return self._stream.read(since, READ_AT_ONCE)
        except Unusable as error:
            raise Conflict(
                "the gateway may not read events", "give its user the present rights: coord acl"
            ) from error

    def hear(self, topic: str, frame: str) -> None:
        """Queue a published event for the clients with a matching pattern."""
        for client in set(self.patterns.of(topic)):  # a client may have several matching patterns
            client.hear(frame)

    def hear_of_coord(self, id_: str, topic: str, frame: str) -> None:
        """Queue an event of coord for the clients with a matching pattern."""
        self.position = id_
        for client in set(self.patterns.of(topic)):
            client.hear_of_coord(id_, topic, frame)


class ClientTopics:
    """The topics of one client. `granted`: patterns that the token allows; `read` calls `gateway.read`, again
    after an outage of Redis.
    """

    def __init__(
        self, gateway: GatewayTopics, granted: Sequence[str], limits: Limits, send: SendFrame, read: Read
    ) -> None:
        self._gateway, self._granted, self._limits = gateway, granted, limits
        self._send, self._read = send, read
        self._patterns: set[str] = set()
        self._waiting: deque[str] = deque()
        self._characters = 0
        self._missed: int | None = 0
        """Number of dropped events; None if it is unknown."""
        self._repeat_from: str | None = None
        """Position from which events of coord are to be read; None: live."""
        self._live_after = BEGINNING
        self._work = asyncio.Event()
        self._allowance = float(limits.publish_burst)
        self._counted_at = time.monotonic()

    async def subscribe(self, wanted: Sequence[str], since: str | None = None) -> None:
        """Subscribe to all patterns or none; `since`: repeat the events of coord after this one. Raises
        UsageError, NotAllowed, Conflict.
        """
        new = {topics.pattern(one) for one in wanted} - self._patterns
        for one in sorted(new):
            # `**` covers all topics of clients and no event of coord.
            of_coord = topics.is_of_coord(one)
            candidates = [granted for granted in self._granted if topics.is_of_coord(granted) or not of_coord]
            if not any(topics.covers(granted, one) for granted in candidates):
                raise NotAllowed(f"your token does not allow the topics {one!r}", self._hint)
        if len(self._patterns) + len(new) > self._limits.subscriptions:
            raise Conflict(
                f"more than {self._limits.subscriptions} subscriptions",
                "unsubscribe from some, or use one like a.**",
            )
        if since is not None:
            place(since)
            if not any(map(topics.is_of_coord, self._patterns | new)):
                raise UsageError(
                    "only the events of coord are kept", f"subscribe to {OF_COORD}.*.*, or leave `since` out"
                )
        self._patterns |= new
        for one in new:
            self._gateway.patterns.add(one, self)
        if since is not None:
            self._repeat_from = since
            self._work.set()
        await self._send_subscriptions()

    async def unsubscribe(self, wanted: Sequence[str]) -> None:
        self._leave(self._patterns & set(wanted))
        await self._send_subscriptions()

    async def _send_subscriptions(self) -> None:
        position = self._gateway.position if self._gets_events_of_coord else ""
        await self._send(frames.subscribed(sorted(self._patterns), self._repeat_from or position))

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
        self._work.set()

    def hear_of_coord(self, id_: str, topic: str, event: str) -> None:
        """Queue an event of coord, unless it is or will be repeated."""
        live = self._repeat_from is None and place(id_) > place(self._live_after)
        if live and self._wants_of_coord(topic):
            self.hear(event)

    def _wants_of_coord(self, topic: str) -> bool:
        """Return whether a pattern that names the events of coord matches; `**` does not name them."""
        return any(topics.is_of_coord(one) and topics.fits(one, topic) for one in self._patterns)

    @property
    def _gets_events_of_coord(self) -> bool:
        return any(map(topics.is_of_coord, self._patterns))

    def gap(self, *, of_coord: bool) -> None:
        """Record a gap of unknown size: in the events of coord, or in the topics of clients."""
        if of_coord:
            self._live_after = BEGINNING
        if any(topics.is_of_coord(one) is of_coord for one in self._patterns):
            self._missed = None
            self._work.set()

    async def send_waiting(self) -> None:
        """Send waiting events, for ever."""
        while True:
            await self._work.wait()
            self._work.clear()
            while self._waiting or self._missed != 0 or self._repeat_from is not None:
                if self._missed != 0:
                    missed, self._missed = self._missed, 0
                    await self._send(frames.gap(missed))
                elif self._waiting:
                    event = self._waiting.popleft()
                    self._characters -= len(event)
                    await self._send(event)
                elif self._repeat_from is not None:
                    await self._repeat(self._repeat_from)

    async def _repeat(self, since: str) -> None:
        """Send the next events of coord after the position; switch to live events if there are none."""
        try:
            batch = await self._read(since)
        except CoordinationError as error:
            self._repeat_from = None
            await self._send(frames.refused({"subscribe": sorted(self._patterns), "since": since}, error))
            return
        for event in batch.events:
            topic = f"{OF_COORD}.{event.kind}"
            if event.kind == GAP:
                await self._send(frames.gap(None, after=event.id, first=event.data.get("first", "")))
            elif self._wants_of_coord(topic):
                await self._send(frames.event(topic_event(event)))
        if self._repeat_from != since:  # the client has requested another position meanwhile
            return
        if batch.position != since:
            self._repeat_from = batch.position
        elif place(self._gateway.position or BEGINNING) <= place(since):
            self._repeat_from, self._live_after = None, since
        else:
            await asyncio.sleep(BEHIND_S)

    def close(self) -> None:
        self._leave(set(self._patterns))

    def _leave(self, removed: set[str]) -> None:
        self._patterns -= removed
        for one in removed:
            self._gateway.patterns.remove(one, self)
        if not self._gets_events_of_coord:
            self._repeat_from = None

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
