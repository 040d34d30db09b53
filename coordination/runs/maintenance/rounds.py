"""A round of the maintenance leader: fire due timers, recover todos with expired leases, send lost messages
again, open overdue levels, forget old runs.

Timers are fired also where recovery is off (`reaper: false`), since retries are not recovery.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import redis

from coordination.backend import library
from coordination.backend.error_messages import cannot_write
from coordination.backend.key_table import is_wrong_type
from coordination.backend.steps.run import Delivery
from coordination.events.records import append_step
from coordination.runs.dispatch import Dispatcher
from coordination.runs.export.document import RunArchiver
from coordination.runs.maintenance.clock import ClockWatch
from coordination.runs.maintenance.expiry import RunExpiry
from coordination.runs.maintenance.lease_trust import LeaseTrust
from coordination.runs.maintenance.mending import KeyMender
from coordination.runs.maintenance.stuck import StuckWatch
from coordination.runs.store import RunStore
from coordination.runs.worker_registry import WorkerRegistry
from coordination.settings import Settings

RESEND_AFTER = timedelta(seconds=5)
RESEND_AT_ONCE = 200
BATCHES = 20
"""Batches per round of steps that concern all todos of a run: half a second, so that other runs have their
turn.
"""
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
        self,
        store: RunStore,
        dispatcher: Dispatcher,
        settings: Settings,
        state: Path | None = None,
        clock: ClockWatch | None = None,
        trust: LeaseTrust | None = None,
    ) -> None:
        """`state`: the folder for the saved states of stuck runs; None: they are not saved. `clock` and
        `trust` are those of a process that has watched Redis before.
        """
        self._store = store
        self._dispatcher = dispatcher
        self._settings = settings
        self._registry = WorkerRegistry(store.redis, store.keys)
        self._clock = clock or ClockWatch(store, settings)
        self.trust = trust or LeaseTrust(settings.lease_ttl)
        self._stuck = StuckWatch(store, state)
        self._server = ""
        self._unreadable: set[str] = set()
        self.misplaced = False
        """True if a key with another type than coord's was found."""

    def run_once(self) -> MaintenanceReport:
        report = MaintenanceReport()
        if not self._clock.now_ms:
            self._clock.look()
        self._see_server()
        runs = self._store.live_runs()
        if self.trust.holds:
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
        for run_id, todo_id in self._store.expired(self._clock.now_ms):
            with self.skip_unreadable(run_id):
                reply = self._store.lose(run_id, todo_id, self._settings.lost_leases, self._clock.now_ms)
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
        if 0 <= self._clock.now_ms - int(settled_at) < LEVEL_GRACE_MS:
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
        self.trust.server_began(age_s)
        began_ms = self._clock.now_ms - (age_s + 1) * 1000  # Redis reports whole seconds
        if new_epoch(self._store, server["run_id"], began_ms):
            logger.warning("Redis was restarted: leases are trusted again after %s", self._settings.lease_ttl)
            self.trust.lose()
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


class MaintenanceRounds:
    """The rounds of one leadership."""

    def __init__(
        self,
        store: RunStore,
        dispatcher: Dispatcher,
        settings: Settings,
        *,
        state: Path | None,
        clock: ClockWatch,
        trust: LeaseTrust,
        mender: KeyMender,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._recovers = settings.reaper
        self._clock = clock
        self._mender = mender
        self._recovery = RunRecovery(store, dispatcher, settings, state, clock, trust)
        archiver = RunArchiver(store, Path(settings.export_runs)) if settings.export_runs else None
        self._expiry = RunExpiry(store, settings.keep_runs, archiver)

    def run_once(self) -> MaintenanceReport:
        self._clock.answer()
        report = self._recovery.run_once() if self._recovers else MaintenanceReport()
        for run_id, todo_id in self._store.due(self._store.now_ms()):
            with self._recovery.skip_unreadable(run_id):
                self._dispatcher.fire(run_id, todo_id)
                report.fired += 1
        report.forgotten = self._expiry.run_when_due()
        if self._recovery.misplaced:
            self._recovery.misplaced = False
            self._mender.run_when_due()
        return report
