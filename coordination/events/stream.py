"""The stream of events of a namespace: append, read from a position, follow, trim, ask for counted kinds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import redis
from redis import Redis

from coordination.backend import library
from coordination.backend.keys import Keys
from coordination.backend.step_connection import StepCaller
from coordination.backend.steps import Step
from coordination.backend.steps.namespace import (
    AppendEvent,
    ForwardedEvent,
    ForwardEvents,
    RequestEvents,
    TrimEvents,
)
from coordination.events.kinds import GAP
from coordination.events.records import (
    BEGINNING,
    LATEST_MS,
    Batch,
    Event,
    Fields,
    append_step,
    event_of,
    place,
)
from coordination.messages.outage import PATIENCE_S, Absence

R = TypeVar("R")
TICK_S = 1.0
"""Time that a follower of a stream waits for an entry."""
READ_AT_ONCE = 1000
ASKED_FOR = timedelta(seconds=30)
"""How long a request for counted kinds lasts; a reader repeats it before that."""

logger = logging.getLogger(__name__)


class EventStream:
    """`client` must decode replies. Methods raise redis-py's errors; `backend.client.reaching` translates
    them.
    """

    def __init__(self, client: Redis, namespace: str) -> None:
        self._redis = client
        self._keys = Keys(namespace).events
        self._connection = StepCaller(client)

    def append(self, kind: str, subject: str = "", **fields: Any) -> str:
        """Write an event of an operation that is no step, with the fields of `append_step`; return its id."""
        return self._call(append_step(kind, subject, **fields))

    def append_all(self, events: Sequence[AppendEvent]) -> None:
        """Write several events in one round trip."""

        def write() -> None:
            with self._redis.pipeline(transaction=False) as pipeline:
                for event in events:
                    pipeline.fcall(*library.fcall(event, [self._keys.head]))
                pipeline.execute()

        self._connection.with_library(write)

    def forwarded(self, source: str) -> int:
        """Return the number of the last edit that was forwarded from a journal; 0 before the first."""
        return int(self._redis.hget(self._keys.positions, source) or 0)

    def forward(self, source: str, number: int, events: Collection[ForwardedEvent]) -> int:
        """Write the events of an edit, unless that was done before; return the number of events written."""
        return self._call(ForwardEvents(source=source, number=number, events=events))

    def end(self) -> str:
        """Return the position after the newest event."""
        newest = self._redis.xrevrange(self._keys.lasting, count=1)
        return str(newest[0][0]) if newest else BEGINNING

    def latest(self, limit: int, wanted: Callable[[Event], bool] = lambda _: True) -> list[Event]:
        """Return the newest events for which `wanted` returns true, oldest first."""
        newest, end = list[Event](), "+"
        while len(newest) < limit:
            entries = self._redis.xrevrange(self._keys.lasting, max=end, count=READ_AT_ONCE)
            newest += filter(wanted, (event for entry in entries if (event := event_of(*entry))))
            if len(entries) < READ_AT_ONCE:
                break
            end = f"({entries[-1][0]}"
        return newest[:limit][::-1]

    def read(self, since: str = BEGINNING, limit: int = READ_AT_ONCE, *, asked: bool = False) -> Batch:
        """Return up to about `limit` events after the position, oldest first; with `asked` also the counted
        kinds that somebody asks for. If events were trimmed before they were read, the first event is
        `events.gap`.

        Raises UsageError for an invalid position.
        """
        place(since)
        streams = (self._keys.lasting, self._keys.asked) if asked else (self._keys.lasting,)
        with self._redis.pipeline(transaction=True) as pipeline:  # one moment: nothing is trimmed in between
            pipeline.time()
            pipeline.xinfo_stream(self._keys.lasting)
            for stream in streams:
                pipeline.xrange(stream, f"({since}", count=limit)
            now, info, *rows = pipeline.execute(raise_on_error=False)
        if isinstance(info, redis.ResponseError) and "no such key" in str(info):
            info = {"last-generated-id": BEGINNING, "entries-added": 0, "length": 0, "first-entry": None}
        for reply in (now, info, *rows):
            if isinstance(reply, Exception):
                raise reply
        gap, start = _gap(since, info, now_ms=int(now[0]) * 1000)
        if start != since:
            return Batch(events=tuple(gap), position=start)
        entries = _merged(rows, limit)
        events = [event for entry in entries if (event := event_of(*entry))]
        if len(events) < len(entries):
            logger.debug(
                "%d entries of %s are no events of coord", len(entries) - len(events), self._keys.lasting
            )
        return Batch(events=(*gap, *events), position=entries[-1][0] if entries else since)

    def position_at(self, moment: datetime) -> str:
        """Return a position before the first event from that time on."""
        at = max(0, int(moment.timestamp() * 1000))
        if first := self._redis.xrange(self._keys.lasting, "-", count=1):
            if at <= place(first[0][0])[0]:
                return f"{at}-0" if at else BEGINNING
            last = self._redis.xrevrange(self._keys.lasting, max=at - 1, count=1)
            return str(last[0][0]) if last else BEGINNING
        return BEGINNING

    def trim(self, position: str) -> int:
        """Delete events up to the position, for the reader that keeps them; return their number. The entry at
        the position stays, and up to about 100 before it.
        """
        place(position)
        return self._call(TrimEvents(position=position))

    def ask(self, kinds: Collection[str], ttl: timedelta = ASKED_FOR) -> None:
        """Ask for counted kinds for the duration `ttl`, in which the steps write them."""
        ms = int(ttl / timedelta(milliseconds=1))
        self._call(RequestEvents(ttl_ms=ms, kinds=kinds))

    def _call(self, step: Step[R]) -> R:
        return self._connection(step, [self._keys.head])


class Follower:
    """Reads every event after a position, for ever. `position` and `asked` may be changed between two reads.

    `reader` must be a blocking, decoding client (Profile.READER). `asked`: counted kinds, which the
    follower asks for as long as it reads.
    """

    def __init__(
        self,
        reader: Redis,
        namespace: str,
        since: str = BEGINNING,
        *,
        asked: Collection[str] = (),
        hint: str = "try again when Redis is back",
        tick_s: float = TICK_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        place(since)
        self.position, self.asked = since, asked
        self.stream = EventStream(reader, namespace)
        self._reader, self._keys, self._tick_s = reader, Keys(namespace).events, tick_s
        self._absence = Absence(reader, hint, patience_s)
        self._ask_at, self._asked_for = 0.0, frozenset[str]()

    def read(self) -> tuple[Event, ...]:
        """Return new events; an empty tuple after a tick without events, and while Redis is away. Raises
        Unreachable when Redis is away for longer than `patience_s`, and Unusable.
        """
        if not self._absence.wait(self._tick_s):
            return ()
        with self._absence.outlived():
            is_new = not self._asked_for.issuperset(self.asked)
            if self.asked and (is_new or time.monotonic() >= self._ask_at):
                self.stream.ask(self.asked)
                self._asked_for = frozenset(self.asked)
                self._ask_at = time.monotonic() + ASKED_FOR.total_seconds() / 3
            if (batch := self._next()).position == self.position:
                self._wait()
                batch = self._next()
            self.position = batch.position
            return batch.events
        return ()

    def _next(self) -> Batch:
        return self.stream.read(self.position, asked=bool(self.asked))

    def _wait(self) -> None:
        names = (self._keys.lasting, self._keys.asked) if self.asked else (self._keys.lasting,)
        self._reader.xread(dict.fromkeys(names, self.position), count=1, block=int(self._tick_s * 1000))


def follow(reader: Redis, namespace: str, since: str = BEGINNING, **how: Any) -> Iterator[Event | None]:
    """Yield every event after the position, for ever, and None after each tick without one. `how`: the
    arguments of `Follower`.
    """
    follower = Follower(reader, namespace, since, **how)
    while True:
        yield from follower.read() or (None,)


def _gap(since: str, info: Mapping[str, Any], now_ms: int) -> tuple[list[Event], str]:
    """Return the event of a gap at the position, if there is one, and the position to read from."""
    last, first = str(info["last-generated-id"]), info["first-entry"]
    if since == BEGINNING:
        return [], since
    if place(since) > place(last) and place(since)[0] > now_ms + 1000:  # new events would come before it
        why = "the position is of another server, or of one whose clock was set back"
        return [_gap_event(last, last, why)], last
    begins = str(first[0]) if first else last
    if int(info["entries-added"]) > int(info["length"]) and place(since) < place(begins):
        why = "events were deleted before they were read; coord history search may have them"
        return [_gap_event(since, begins, why)], since if first else last
    return [], since


def _gap_event(position: str, first: str, why: str) -> Event:
    at = datetime.fromtimestamp(min(place(first)[0], LATEST_MS) / 1000, UTC)
    return Event(id=position, at=at, kind=GAP, title=why, data={"first": first})


def _merged(rows: Sequence[Sequence[tuple[str, Fields]]], limit: int) -> list[tuple[str, Fields]]:
    """Return the entries of the streams in order, up to where each of them was read."""
    ends = [place(entries[-1][0]) for entries in rows if len(entries) >= limit]
    merged = sorted((entry for entries in rows for entry in entries), key=lambda entry: place(entry[0]))
    return [entry for entry in merged if not ends or place(entry[0]) <= min(ends)]
