"""The monitor: one worker checks all subjects, writes their records, and starts their recoveries.

Every worker that has the file runs a monitor; the holder of the lock `health` leads. The leader checks its
fence before it writes changed records or, every two seconds, its mark. Each round renews the lock, so a
monitor that hangs loses it. A recovery is a run. Its id is in the record, so the next leader follows it. If a
leader dies before it has recorded the run, the run of the next leader is refused as a conflict until the
first run has ended.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property

import redis

from coordination.backend.steps.namespace import AppendEvent
from coordination.background import BackgroundService
from coordination.breakers.manager import BreakerManager
from coordination.breakers.records import BreakerState
from coordination.errors import BreakerOpen, Conflict, CoordinationError, LockError, StaleFence, Unreachable
from coordination.events.records import append_step, one_line
from coordination.events.stream import EventStream
from coordination.health.facts import FactSource, Gathered, look_at, subjects_of
from coordination.health.records import DOWN, Health, HealthState, Subject
from coordination.health.recovery import RecoveryRuns
from coordination.health.store import HealthStore, Monitor
from coordination.health.timetable import EVERY_S, Timetable
from coordination.locks import Guard, Lock, LockManager
from coordination.locks.request import HEALTH

TICK_S = 0.5
LEAD_TTL = timedelta(seconds=5)
GATHER_S = 2.0
"""Seconds after which the facts are gathered again and the mark of the monitor is renewed."""
TRY_S = 2.0
"""Seconds between two tries for the lock by workers that do not lead."""
RECOVERY_S = 300.0
"""Seconds after which an unfinished recovery is cancelled and counts as failed."""
BUSY_S = 10.0
"""Seconds after which a recovery is tried again while a person changes the service."""

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Round:
    """Results of one round: ids of subjects."""

    looked_at: int = 0
    changed: list[str] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)


class HealthMonitor(BackgroundService):
    name = "health"
    interval_s = TICK_S

    def __init__(
        self,
        store: HealthStore,
        source: FactSource,
        events: EventStream,
        locks: LockManager,
        breakers: BreakerManager,
        recoveries: RecoveryRuns,
        *,
        label: str,
        lease: timedelta,
        every: timedelta = timedelta(seconds=EVERY_S),
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._store, self._source, self._events = store, source, events
        self._locks, self._breakers, self._recoveries = locks, breakers, recoveries
        self._label, self._lease_s, self._clock = label, lease.total_seconds(), clock
        self._every_s = every.total_seconds()
        self._lock: Lock | None = None
        self._table = Timetable()
        self._written: dict[str, Health] = {}
        self._gathered: Gathered | None = None
        self._gather_at = 0.0
        self._marked_at = 0.0

    @cached_property
    def _guard(self) -> Guard:
        """The register of the leader. It is made in a round, not in the constructor: an error of Redis in a
        round is logged and repeated, one at the start would cost the worker all of its services.
        """
        return self._locks.guard(HEALTH)

    def run_once(self) -> Round:
        """Do one round if this worker leads; return its results."""
        done, now = Round(), self._clock()
        leads = self._leads(now)
        self.interval_s = TICK_S if leads else TRY_S
        if not leads:
            return done
        self._gather(now)
        self._look(done, now)
        self._follow_recoveries(done, now)
        self._begin_recoveries(done, now)
        self._write(done, now)
        return done

    def failed(self, error: Exception) -> float:
        if isinstance(error, StaleFence):
            self._lock = None
        elif isinstance(error, redis.RedisError | Unreachable):
            logger.warning("Redis does not answer the health monitor: %s", error)
            self._table.redis_was_away(self._clock(), self._lease_s)
        elif isinstance(error, CoordinationError):  # the file is being edited, say
            logger.warning("health is not looked at: %s", error)
        else:
            return super().failed(error)
        self._gather_at = 0.0
        return self.interval_s

    def finish(self) -> None:
        if self._lock is not None:
            with suppress(LockError):
                self._lock.release()

    def _leads(self, now: float) -> bool:
        if self._lock is not None and self._lock.renew():
            return True
        try:
            _ = self._guard  # before the grant, which raises its fence
            self._lock = self._locks.acquire(
                HEALTH, ttl=LEAD_TTL, wait=timedelta(0), owner=self._label, keep=False
            )
        except LockError:
            self._lock = None
            return False
        records = self._store.records()
        self._table = Timetable(records, every_s=self._every_s)
        self._written = {one.id: one for one in records}
        # The leader may also have changed because Redis was away.
        self._table.redis_was_away(now, self._lease_s)
        self._gather_at = 0.0
        return True

    def _gather(self, now: float) -> None:
        if self._gather_at - GATHER_S <= now < self._gather_at:
            return
        server = self._gathered.server if self._gathered else ""
        self._gathered = self._source.gather(now)
        if server and self._gathered.server != server:
            self._table.redis_was_away(now, self._lease_s)
        self._table.watch(subjects_of(self._gathered.declared, self._gathered.seen), now)
        names = {record.subject.breaker: subject for subject, record in self._table.records.items()}
        tripped = {one.name: one.state for one in self._breakers.list() if one.name in names}
        self._table.breakers({names[name]: state for name, state in tripped.items()})
        self._gather_at = now + GATHER_S

    def _look(self, done: Round, now: float) -> None:
        if self._gathered is None:
            return
        seen = self._gathered.seen
        for subject in self._table.due(now):
            before = self._table.records[subject]
            look = look_at(before.subject, seen)
            record = self._table.take(subject, look, now, now)
            done.looked_at += 1
            if record is None:
                continue
            # A look that the timetable ignores, such as one during a recovery, counts no failure.
            recovers = record.verdict is HealthState.RECOVERING
            if record.verdict in DOWN and not recovers and record.failures > before.failures:
                vain = before.verdict is HealthState.RECOVERING
                who = before.recovery_id if vain else uuid.uuid4().hex
                self._breakers.record(record.subject.breaker, who, "failed", why=look.why)
            elif record.verdict is HealthState.HEALTHY and record.breaker is not BreakerState.CLOSED:
                self._close_breaker(record.subject, before.recovery_id)

    def _close_breaker(self, subject: Subject, recovery: str) -> None:
        with suppress(BreakerOpen):
            if self._breakers.allow(subject.breaker, recovery, timedelta(seconds=RECOVERY_S)):
                self._breakers.record(subject.breaker, recovery, "succeeded")

    def _follow_recoveries(self, done: Round, now: float) -> None:
        going_on = {one.id: one for one in self._table.under_recovery()}
        for subject, before in self._written.items():
            known = self._table.records.get(subject)
            if before.recovery_from is not None and (known is None or not known.subject.connected):
                self._recoveries.cancel(before.run)  # a person has stopped the service, or disconnected it
        for subject, record in going_on.items():
            why = self._recoveries.outcome(record.run)
            if why is None and now - (record.recovery_from or now) > RECOVERY_S:
                self._recoveries.cancel(record.run)
                why = f"its recovery has not ended within {RECOVERY_S:g} s: coord show-run {record.run}"
            if why is not None:
                self._ended(done, subject, why, now)

    def _begin_recoveries(self, done: Round, now: float) -> None:
        for subject in self._table.may_recover(now):
            record = self._table.records[subject]
            try:
                self._breakers.allow(
                    record.subject.breaker, record.recovery_id, timedelta(seconds=RECOVERY_S)
                )
            except BreakerOpen as refused:
                until = refused.retry_at.timestamp() if refused.retry_at else now + BUSY_S
                self._table.recovery_refused(subject, now, until)
                continue
            self._guard.check(self._fence)
            try:
                run = self._recoveries.begin(record)
            except Conflict as conflict:
                logger.info("%s is not recovered now: %s", subject, conflict.message)
                self._breakers.record(record.subject.breaker, record.recovery_id, "gave_up")
                self._table.recovery_refused(subject, now, now + BUSY_S)
                continue
            except CoordinationError as error:
                if isinstance(error, Unreachable):
                    raise
                self._table.recovery_began(subject, "", now)
                self._ended(done, subject, f"cannot be recovered: {error.message}", now)
                continue
            logger.warning("%s is %s (%s): recovery %s", subject, record.verdict, record.why, run)
            self._table.recovery_began(subject, run, now)
            done.begun.append(subject)

    def _ended(self, done: Round, subject: str, why: str, now: float) -> None:
        record = self._table.records.get(subject)
        self._table.recovery_ended(subject, why, now)
        self._gather_at = 0.0  # the facts of before its end may show the old process, which was healthy
        done.ended.append(subject)
        if why and record is not None:
            logger.warning("the recovery of %s failed: %s", subject, why)
            self._breakers.record(record.subject.breaker, record.recovery_id, "failed", why=why)

    def _write(self, done: Round, now: float) -> None:
        """Write changed records, with an event for each new state."""
        current = dict(self._table.records)
        changed = [one for name, one in current.items() if self._written.get(name) != one]
        removed = self._written.keys() - current.keys()
        if not changed and not removed and 0 <= now - self._marked_at < GATHER_S:
            return
        self._guard.check(self._fence)
        self._store.write(changed, removed, Monitor(at=now, worker=self._label))
        self._marked_at = now
        events = []
        for record in changed:
            before = self._written.get(record.id)
            was = before.state if before else HealthState.UNKNOWN
            first = was is HealthState.UNKNOWN and record.state is HealthState.HEALTHY
            if was is not record.state and not first:
                done.changed.append(record.id)
                events.append(_event("health.changed", record, was))
            if record.given_up and not (before and before.given_up):
                events.append(_event("health.given_up", record, was))
                self._recoveries.tell(record)
        self._written = current
        if events:
            self._events.append_all(events)

    @property
    def _fence(self) -> int:
        return self._lock.fence if self._lock is not None else 0


def _event(kind: str, record: Health, was: HealthState) -> AppendEvent:
    subject = record.subject
    required = "yes" if subject.required else "no"
    return append_step(
        kind,
        subject.id,
        run=record.run if kind == "health.given_up" else "",
        repos=(subject.repo,) if subject.repo else (),
        title=one_line(record.why),
        data={"was": was, "state": record.state, "required": required},
    )
