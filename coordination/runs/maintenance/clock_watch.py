"""Whether Redis' clock was set, seen beside a clock that nobody can set, and what is done then: nobody is declared lost for it.

Leases and timers stand in Redis by its clock alone; that of a worker's machine counts nowhere. But Redis' own may be set, by
hand or by the machine's time service, or stand in a machine that slept. Forwards, every lease looks expired at once, though
its worker lives; backwards, the leases of the dead last too long, and a timer would wait for as long as the clock was set.

Python's monotonic clock stands still while a machine sleeps. That is wanted here: a laptop that wakes up sees that
Redis' clock went on without it, and gives the other workers, that slept as well, the time to renew.

What is not seen: a step between the last look of a leader that died and the first of one that was started after it, and steps
of less than a second. A step within one round does no harm: leases are lost by the time of the look before it.

Each worker that may lead looks: a step forwards ends the lead as well, and the next leader must know of the step. What lasts
too long after a step backwards is put right once, by the one that leads.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

from coordination.backend.keys import split_member
from coordination.backend.step_connection import StepCaller
from coordination.runs.presence import Presence
from coordination.runs.store import RunStore, ms
from coordination.settings import Settings

TOLERANCE_MS = 1000
DRIFT = 0.001
"""How far two clocks part that nobody sets: a time service slews by 0.0005 at most."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """The clock was set, by so much; backwards is less than 0."""

    by_ms: int
    seen_ms: int
    """When that was seen, by the clock as it is now."""
    earliest_ms: int
    """Before which it was not, by the clock as it is now."""

    @property
    def is_back(self) -> bool:
        return self.by_ms < 0

    def moved(self, due_ms: int, since_ms: int | None, now_ms: int) -> int | None:
        """When a timer is due that was set at `since_ms` (None: nobody knows), so that it waits as long as it was meant to.

        None where it need not be moved: after a step forwards, if it is due, or if it was set since then.
        """
        if not self.is_back or due_ms <= now_ms:
            return None
        if since_ms is not None and self.earliest_ms <= since_ms <= now_ms:
            return None
        return due_ms + self.by_ms


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the server said its time was, between two moments of our clock in seconds."""

    server_ms: int
    asked_s: float
    answered_s: float


class ServerClock:
    def __init__(self) -> None:
        self._last: Look | None = None

    def look(self, new: Look) -> Step | None:
        """How far it was set since the last look, if it was."""
        last, self._last = self._last, new
        if last is None:
            return None
        went_ms = new.server_ms - last.server_ms
        least_ms = round((new.asked_s - last.answered_s) * 1000)
        most_ms = round((new.answered_s - last.asked_s) * 1000)
        allowed_ms = TOLERANCE_MS + most_ms * DRIFT
        beyond_ms = max(went_ms - most_ms, 0) or min(went_ms - least_ms, 0)
        if abs(beyond_ms) <= allowed_ms:
            return None
        return Step(by_ms=beyond_ms, seen_ms=new.server_ms, earliest_ms=new.server_ms - most_ms - TOLERANCE_MS)


ANSWERED_WITHIN_S = 60.0
"""By then somebody leads, and has seen to it."""

logger = logging.getLogger(__name__)


class ClockWatch:
    def __init__(self, store: RunStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._presence = Presence(store.redis, store.keys)
        self._step = StepCaller(store.redis)
        self._clock = ServerClock()
        self._seen: list[tuple[float, Step]] = []
        self.now_ms = 0
        """At the last look, by the server's clock."""

    def look(self) -> Step | None:
        """How far it was set since the last look, if it was."""
        asked_s = time.monotonic()
        self.now_ms = self._store.now_ms()
        step = self._clock.look(Look(server_ms=self.now_ms, asked_s=asked_s, answered_s=time.monotonic()))
        self._seen = [(at, seen) for at, seen in self._seen if asked_s - at < ANSWERED_WITHIN_S]
        if step is not None:
            self._seen.append((asked_s, step))
            words = "leases are trusted again after"
            logger.warning("Redis' clock was set by %+.1f s: %s %s", step.by_ms / 1000, words, self._settings.lease_ttl)
        return step

    @property
    def was_set_back(self) -> bool:
        """Not long ago."""
        return any(step.is_back for _, step in self._seen)

    def answer(self) -> None:
        """By whoever leads."""
        while self._seen:
            _, step = self._seen[0]
            self._put_right(step)
            del self._seen[0]  # not before: Redis may be away

    def _put_right(self, step: Step) -> None:
        keys = self._store.keys
        words = [step.by_ms, step.earliest_ms, step.seen_ms, ms(self._settings.lease_ttl)]
        moved = [part for timer in self._to_be_moved(step) for part in timer]
        self._step("lease/clock_step", [keys.leases, keys.timers, keys.epoch, keys.counters], [*words, *moved])
        if step.is_back:
            self._presence.shorten(self._settings.heartbeat)

    def _to_be_moved(self, step: Step) -> Iterator[tuple[str, int, int]]:
        """Timers, each with when it is due and when it should be."""
        redis, keys = self._store.redis, self._store.keys
        timers = redis.zrange(keys.timers, 0, -1, withscores=True) if step.is_back else []
        with redis.pipeline(transaction=False) as pipeline:
            for name, _ in timers:
                run_id, todo_id = split_member(name)
                pipeline.hget(keys.run(run_id).facts, f"{todo_id} since")
            since = pipeline.execute(raise_on_error=False)
        for (name, due), at in zip(timers, since, strict=True):
            set_at_ms = int(at) if isinstance(at, str) else None
            if moved_ms := step.moved(int(due), set_at_ms, self.now_ms):
                yield name, int(due), moved_ms
