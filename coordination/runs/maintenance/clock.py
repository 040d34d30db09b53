"""Detect that the clock of the Redis server was set.

Leases and timers use the clock of Redis only; the clock of a worker's machine is never used. The clock of
Redis may be set by hand or by the time service of its machine, or stop while its machine sleeps. After a step
forwards every lease looks expired at once although its worker lives. After a step backwards the leases of
dead workers last too long, and a timer waits longer by the size of the step. `ClockWatch` corrects leases and
timers, so that no worker is declared lost because of a step.

The reference is Python's monotonic clock, which nobody can set and which stops while a machine sleeps. That
is intended: a laptop that wakes up sees that the clock of Redis went on without it, and gives the other
workers, which slept as well, the time to renew.

Not detected: a step between the last check of a leader that died and the first check of a leader that was
started later, and steps of less than a second. A step within one round does no harm: leases are lost by the
time of the check before it.

Every worker that may become the leader checks the clock: a step forwards also ends the leader's lock, and the
next leader must know of the step. After a step backwards the leader corrects, once, the leases and timers
that last too long.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

from coordination.backend.keys import split_member
from coordination.backend.step_connection import StepCaller
from coordination.backend.steps.namespace import CorrectClockStep
from coordination.durations import ms
from coordination.runs.store import RunStore
from coordination.runs.worker_registry import WorkerRegistry
from coordination.settings import Settings

TOLERANCE_MS = 1000
DRIFT = 0.001
"""Greatest relative drift between two clocks that are not set; a time service slews by 0.0005 at most."""


@dataclass(frozen=True, kw_only=True)
class ClockStep:
    """A step of the server's clock by `by_ms`; less than 0 for a step backwards."""

    by_ms: int
    seen_ms: int
    """Time at which the step was seen, by the clock after the step."""
    earliest_ms: int
    """Earliest time of the step, by the clock after the step."""

    @property
    def is_back(self) -> bool:
        return self.by_ms < 0

    def moved(self, due_ms: int, since_ms: int | None, now_ms: int) -> int | None:
        """Return the corrected due time of a timer that was set at `since_ms` (None: unknown), so that it
        waits as long as intended.

        Return None where the timer need not be moved: after a step forwards, if it is due, or if it was set
        after the step.
        """
        if not self.is_back or due_ms <= now_ms:
            return None
        if since_ms is not None and self.earliest_ms <= since_ms <= now_ms:
            return None
        return due_ms + self.by_ms


@dataclass(frozen=True, kw_only=True)
class ClockReading:
    """The time that the server reported, between two readings of our monotonic clock in seconds."""

    server_ms: int
    asked_s: float
    answered_s: float


class ServerClock:
    def __init__(self) -> None:
        self._last: ClockReading | None = None

    def look(self, new: ClockReading) -> ClockStep | None:
        """Return the step since the last look, None if there was none."""
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
        return ClockStep(
            by_ms=beyond_ms, seen_ms=new.server_ms, earliest_ms=new.server_ms - most_ms - TOLERANCE_MS
        )


ANSWERED_WITHIN_S = 60.0
"""Time within which a worker becomes the leader and handles the step."""

logger = logging.getLogger(__name__)


class ClockWatch:
    def __init__(self, store: RunStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._registry = WorkerRegistry(store.redis, store.keys)
        self._step = StepCaller(store.redis)
        self._clock = ServerClock()
        self._seen: list[tuple[float, ClockStep]] = []
        self.now_ms = 0
        """The server's time at the last look."""

    def look(self) -> ClockStep | None:
        """Return the step since the last look, None if there was none."""
        asked_s = time.monotonic()
        self.now_ms = self._store.now_ms()
        step = self._clock.look(
            ClockReading(server_ms=self.now_ms, asked_s=asked_s, answered_s=time.monotonic())
        )
        self._seen = [(at, seen) for at, seen in self._seen if asked_s - at < ANSWERED_WITHIN_S]
        if step is not None:
            self._seen.append((asked_s, step))
            message = "Redis' clock was set by %+.1f s: leases are trusted again after %s"
            logger.warning(message, step.by_ms / 1000, self._settings.lease_ttl)
        return step

    @property
    def was_set_back(self) -> bool:
        """Return whether the clock was set back within the last `ANSWERED_WITHIN_S`."""
        return any(step.is_back for _, step in self._seen)

    def answer(self) -> None:
        """Correct leases and timers after the steps that were seen; called by the leader only."""
        while self._seen:
            _, step = self._seen[0]
            self._correct_timers(step)
            del self._seen[0]  # only after success: Redis may be unreachable

    def _correct_timers(self, step: ClockStep) -> None:
        keys = self._store.keys
        correction = CorrectClockStep(
            by_ms=step.by_ms, earliest_ms=step.earliest_ms, latest_ms=step.seen_ms,
            lease_ms=ms(self._settings.lease_ttl), timers=list(self._to_be_moved(step)),
        )  # fmt: skip
        self._step(correction, [keys.leases, keys.timers, keys.epoch, keys.counters])
        if step.is_back:
            self._registry.shorten(self._settings.heartbeat)

    def _to_be_moved(self, step: ClockStep) -> Iterator[tuple[str, int, int]]:
        """Yield the timers to move, each with its due time and its corrected due time."""
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
