"""Maintenance loop: fire due timers, recover todos with expired leases, send lost messages again, open
overdue levels.

Every worker runs a `MaintenanceLeader`; the one that holds the lock `keeper` acts. Two that act at once (the
lock's holder was frozen) only repeat idempotent steps. The same thread fires timers also where recovery is
off (`reaper: false`), since retries are not recovery.

An unreachable Redis does not mean that workers are dead. After an error, after a restart of the server, and
when its clock was set, no worker is declared lost until Redis has answered for one whole lease: by then every
living worker has renewed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import redis

from coordination.backend import library
from coordination.backend.error_messages import cannot_write
from coordination.backend.key_table import is_wrong_type, set_apart
from coordination.backend.keys import lock
from coordination.backend.steps.run import Delivery
from coordination.background import BackgroundService
from coordination.durations import ms
from coordination.errors import LockError, Unreachable
from coordination.events.records import append_step
from coordination.locks import Lock, LockManager
from coordination.locks.request import LEADER
from coordination.runs.dispatch import Dispatcher
from coordination.runs.export.document import RunArchiver
from coordination.runs.maintenance.expiry import RunExpiry
from coordination.runs.maintenance.faults import ClockWatch, StuckWatch
from coordination.runs.records import LIVE
from coordination.runs.store import RunStore
from coordination.runs.worker_registry import WorkerRegistry
from coordination.settings import Settings

TICK_S = 0.5
LEAD_TTL = timedelta(seconds=2)
RESEND_AFTER = timedelta(seconds=5)
RESEND_AT_ONCE = 200
BATCHES = 20
"""Batches per round of steps that concern all todos of a run: half a second, so that other runs have their
turn.
"""
MEND_EVERY_S = 5.0
"""Least time between two scans of all keys for keys of a wrong type."""
LEVEL_GRACE_MS = 5000
"""Time for the join of a level's chord; after it maintenance opens the next level."""

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class MaintenanceReport:
    """Counts and names of what one round did."""

    fired: int = 0
    lost: list[tuple[str, str]] = field(default_factory=list)
    stranded: list[str] = field(default_factory=list)
    advanced: list[tuple[str, int]] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)


class RunRecovery:
    """Recovers live runs: todos of lost workers, lost messages, levels that were not opened, stuck runs."""

    def __init__(
        self, store: RunStore, dispatcher: Dispatcher, settings: Settings, state: Path | None = None
    ) -> None:
        """`state`: the folder for the saved states of stuck runs; None: they are not saved."""
        self._store = store
        self._dispatcher = dispatcher
        self._settings = settings
        self._registry = WorkerRegistry(store.redis, store.keys)
        self.clock = ClockWatch(store, settings)
        self._stuck = StuckWatch(store, state)
        self._server = ""
        self._trusted_from = time.monotonic()
        self._unreadable: set[str] = set()
        self.misplaced = False
        """True if a key with another type than coord's was found."""

    def look_at_clock(self) -> None:
        """Check the server's clock; called before each round, by leaders and others."""
        if self.clock.look() is not None:
            self.redis_was_away()

    def redis_was_away(self) -> None:
        self._trusted_from = time.monotonic() + self._settings.lease_ttl.total_seconds()

    def run_once(self) -> MaintenanceReport:
        report = MaintenanceReport()
        if not self.clock.now_ms:
            self.look_at_clock()
        self._see_server()
        runs = self._store.live_runs()
        if time.monotonic() >= self._trusted_from:
            self._reap(report)
            self._park_unserved(runs, report)
        for run_id in runs:
            with self.skip_unreadable(run_id):
                self._dispatcher.finish(run_id, BATCHES)
                self._resend(run_id)
                self._advance(run_id, report)
        report.stuck = self._stuck.run_once(runs, time.monotonic(), self.skip_unreadable)
        return report

    @contextmanager
    def skip_unreadable(self, run_id: str) -> Iterator[None]:
        """Skip a run whose records cannot be read (damaged by hand, of another version), so that it does not
        block the others.

        Log each such run once.
        """
        try:
            yield
        except (redis.ResponseError, ValueError) as error:
            if isinstance(error, redis.ResponseError) and cannot_write(error):
                raise
            self.misplaced |= is_wrong_type(error)
            if run_id not in self._unreadable:
                logger.error("run %s cannot continue, its records in Redis are damaged: %s", run_id, error)
            self._unreadable.add(run_id)

    def _reap(self, report: MaintenanceReport) -> None:
        for run_id, todo_id in self._store.expired(self.clock.now_ms):
            with self.skip_unreadable(run_id):
                reply = self._store.lose(run_id, todo_id, self._settings.lost_leases, self.clock.now_ms)
                if reply.word != "alive":
                    logger.warning("%s of run %s lost its worker: %s", todo_id, run_id, reply.word)
                    report.lost.append((run_id, todo_id))
                self._dispatcher.follow(reply)

    def _park_unserved(self, runs: Iterable[str], report: MaintenanceReport) -> None:
        """Park the todos that no living worker can take, with the wait reason; continue those that
        have one again.
        """
        served = [(repo, worker.host) for worker in self._registry.workers() for repo in worker.repos]
        for run_id in runs:
            with self.skip_unreadable(run_id):
                reply = self._store.park_unserved(run_id, served)
                if reply.word == "stranded":
                    report.stranded.append(run_id)
                self._dispatcher.follow(reply)

    def _resend(self, run_id: str) -> None:
        reply = self._store.resend(run_id, RESEND_AFTER, RESEND_AT_ONCE)
        # A message that is still in its queue is not lost; no worker has taken it yet.
        empty = {q for q in {self._queue(d) for d in reply.sends} if not self._store.redis.llen(q)}
        lost = tuple(d for d in reply.sends if self._queue(d) in empty)
        self._dispatcher.send(lost)

    def _queue(self, delivery: Delivery) -> str:
        return self._store.keys.queue(delivery.repo, delivery.host)

    def _advance(self, run_id: str, report: MaintenanceReport) -> None:
        meta = self._store.keys.run(run_id).meta
        level, settled_at = self._store.redis.hmget(meta, ["level", "level_settled_at"])
        if settled_at is None or level is None:
            return
        # less than 0: settled before the clock was set back
        if 0 <= self.clock.now_ms - int(settled_at) < LEVEL_GRACE_MS:
            return
        if self._dispatcher.advance(run_id, int(level), "reaper").word == "advanced":
            report.advanced.append((run_id, int(level)))

    def _see_server(self) -> None:
        """Detect a restart of the server: acknowledged writes may be lost (at most 2 s of them). Log and
        count it.

        The server's age is read once per server process, because it depends on the clock that may be set.
        """
        server = self._store.redis.info("server")
        if server["run_id"] == self._server:
            return
        age_s = max(0, int(server["uptime_in_seconds"]))
        lease_s = self._settings.lease_ttl.total_seconds()
        self._trusted_from = max(self._trusted_from, time.monotonic() + lease_s - age_s)
        began_ms = self.clock.now_ms - (age_s + 1) * 1000  # Redis reports whole seconds
        if new_epoch(self._store, server["run_id"], began_ms):
            logger.warning("Redis was restarted: leases are trusted again after %s", self._settings.lease_ttl)
            self.redis_was_away()
        self._server = server["run_id"]  # only after success: the next round repeats what failed


def new_epoch(store: RunStore, server_id: str, since_ms: int) -> bool:
    """Record the server process; return True once for each one that replaced another while runs were live.

    The restart is an event of the namespace, and of each run that was live before the process began
    (`since_ms`). Without such a run there is none: an embedded server starts anew for each sweep.
    """
    known, n = store.redis.hmget(store.keys.epoch, ["server", "n"])
    if known == server_id:
        return False
    epoch = int(n or 0) + 1
    live_before = store.redis.zrangebyscore(store.keys.live, "-inf", since_ms) if known else []
    store._client_scripts.load()  # the server may have lost it
    # Atomic, or repeated: the caller that gets True once is the only one.
    with store.redis.pipeline(transaction=True) as pipeline:
        pipeline.hset(store.keys.epoch, mapping={"server": server_id, "n": epoch})
        if live_before:
            event = append_step("redis.restarted", server_id, data={"epoch": str(epoch)})
            pipeline.fcall(*library.fcall(event, [store.keys.events.head]))
        for run_id in live_before:
            pipeline.xadd(
                store.keys.run(run_id).events, {"what": "redis.restarted", "todo": "", "epoch": epoch}
            )
        pipeline.execute()
    return bool(live_before)


class MaintenanceLeader(BackgroundService):
    """Background service of every worker that does maintenance in rounds while it holds the leader's lock."""

    name = "maintenance"
    interval_s = TICK_S

    def __init__(
        self,
        store: RunStore,
        dispatcher: Dispatcher,
        settings: Settings,
        *,
        label: str,
        state: Path | None = None,
    ) -> None:
        super().__init__()
        self._store = store
        self._dispatcher = dispatcher
        self._settings = settings
        self._recovery = RunRecovery(store, dispatcher, settings, state)
        archiver = RunArchiver(store, Path(settings.export_runs)) if settings.export_runs else None
        self._expiry = RunExpiry(store, settings.keep_runs, archiver)
        self._locks = LockManager(store.redis, store.keys.namespace)
        self._lock: Lock | None = None
        self._label = label
        self._mend_at = 0.0

    @property
    def leads(self) -> bool:
        """Return whether this worker led in its last round."""
        return self._lock is not None

    def run_once(self) -> MaintenanceReport:
        """Do one round if this worker leads; return what it did."""
        self._recovery.look_at_clock()
        if not self._leads():
            return MaintenanceReport()
        self._recovery.clock.answer()
        report = self._recovery.run_once() if self._settings.reaper else MaintenanceReport()
        for run_id, todo_id in self._store.due(self._store.now_ms()):
            with self._recovery.skip_unreadable(run_id):
                reply = self._store.fire(run_id, todo_id)
                self._dispatcher.follow(reply)
                if reply.word == "settled":
                    self._dispatcher.open_level_after(run_id, todo_id)
                report.fired += 1
        report.forgotten = self._expiry.run_when_due()
        if self._recovery.misplaced:
            self._recovery.misplaced = False
            self._mend()
        return report

    def _leads(self) -> bool:
        if self._lock is not None and self._lock.renew():
            return True
        try:
            # Renewed by each round, not by a thread: a leader that hangs must lose the lock.
            self._lock = self._locks.acquire(
                LEADER, ttl=LEAD_TTL, wait=timedelta(0), owner=self._label, keep=False
            )
        except LockError:
            self._lock = None
            self._shorten_lead()
        return self._lock is not None

    def _shorten_lead(self) -> None:
        """Shorten the lock of a leader that died before the clock was set back: Redis would keep it for the
        size of the step.
        """
        held = self._store.keys.locks.holder(lock(LEADER))
        if self._recovery.clock.was_set_back and self._store.redis.pttl(held) > ms(LEAD_TTL):
            self._store.redis.pexpire(held, LEAD_TTL)

    def finish(self) -> None:
        if self._lock is not None:
            with suppress(LockError):  # this process slept, and another worker leads
                self._lock.release()

    def _mend(self) -> None:
        """Set keys of a wrong type apart, also without the lock: nobody could acquire a lock whose key has a
        wrong type.
        """
        if time.monotonic() >= self._mend_at:
            self._mend_at = time.monotonic() + MEND_EVERY_S
            if "live" in set_apart(self._store.redis, self._store.keys.namespace):
                self._list_live()

    def _list_live(self) -> None:
        """Rebuild the list of runs that have not ended, after it was lost."""
        redis, keys = self._store.redis, self._store.keys
        for run_id, at_ms in redis.zrange(keys.runs, 0, -1, withscores=True):
            if self._store.status(run_id) in LIVE:
                redis.zadd(keys.live, {run_id: at_ms}, nx=True)

    def failed(self, error: Exception) -> float:
        if not isinstance(error, redis.RedisError | Unreachable):
            return super().failed(error)
        if is_wrong_type(error):
            self.guarded(self._mend)
        else:
            logger.warning("Redis does not answer the maintenance leader: %s", error)
            self._recovery.redis_was_away()
        return self.interval_s
