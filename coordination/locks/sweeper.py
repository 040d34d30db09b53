"""Periodic removal of entries that dead processes left in the queues and indexes of locks, and other periodic
jobs.

Waiting requests do not depend on it, because they notice themselves when a holder has expired. It handles
names that nobody requests again, index entries of owners that never released, and todos that wait behind an
expired share of a resource.

Every process may run a Sweeper; the one that holds the lock `sweeper` is active. Two active ones would do no
harm: the second finds nothing left to remove.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar

import redis

from coordination.backend.keys import Keys
from coordination.backend.step_connection import StepConnection
from coordination.backend.steps import Step
from coordination.backend.steps import lock as steps
from coordination.background import BackgroundService
from coordination.errors import CoordinationError, LockError
from coordination.locks.listing import AT_ONCE, scanned
from coordination.locks.lock import Lock
from coordination.locks.manager import LockManager
from coordination.locks.request import SWEEPER

EVERY = timedelta(seconds=30)

logger = logging.getLogger(__name__)

R = TypeVar("R")
PeriodicJob = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class SweepReport:
    """Counts of one round."""

    led: bool = True
    """False if another process is active."""
    places: int = 0
    """Queue places of dead waiters that were removed."""
    shares: int = 0
    """Expired shares that were removed."""
    handed: int = 0
    """Requests that were granted the freed names."""
    idle: int = 0
    """Unused names that were removed."""
    owners: int = 0
    """Index entries of owners without locks that were removed."""
    periodic_jobs: tuple[object, ...] = ()
    """Results of the jobs; None for a failed one."""


class Sweeper(BackgroundService):
    name = SWEEPER

    def __init__(
        self,
        client: redis.Redis,
        namespace: str,
        *,
        periodic_jobs: Sequence[PeriodicJob] = (),
        every: timedelta = EVERY,
        label: str = "",
    ) -> None:
        super().__init__()
        self._line = StepConnection(client)
        self._keys = Keys(namespace).locks
        self._locks = LockManager(client, namespace)
        self._periodic_jobs = tuple(periodic_jobs)
        self.interval_s = every.total_seconds()
        self._label = label
        self._lock: Lock | None = None

    def stop(self) -> None:
        super().stop()
        self._locks.close()
        self._line.close()

    def run_once(self) -> SweepReport:
        """Run one round if this sweeper is active."""
        if not self._leads():
            return SweepReport(led=False)
        swept = replace(self._names(), owners=self._owners())
        return replace(swept, periodic_jobs=tuple(map(_run_job, self._periodic_jobs)))

    def _leads(self) -> bool:
        """Return whether this sweeper holds the lock, which it keeps between rounds."""
        if self._lock is not None and not self._lock.lost.is_set():
            return True
        try:
            self._lock = self._locks.acquire(SWEEPER, wait=timedelta(0), owner=self._label)
        except LockError:
            self._lock = None
        return self._lock is not None

    def _names(self) -> SweepReport:
        swept = [self._call(steps.Sweep(names=part)) for part in self._batches(self._keys.names)]
        return SweepReport(
            places=sum(one.places for one in swept),
            shares=sum(one.shares for one in swept),
            handed=sum(one.granted for one in swept),
            idle=sum(one.idle for one in swept),
        )

    def _owners(self) -> int:
        return sum(self._call(steps.SweepOwners(parties=part)) for part in self._batches(self._keys.parties))

    def _batches(self, key: str) -> list[list[str]]:
        members = sorted(scanned(self._line, key))
        return [members[start : start + AT_ONCE] for start in range(0, len(members), AT_ONCE)]

    def _call(self, step: Step[R]) -> R:
        return self._line(step, [self._keys.head])

    def failed(self, error: Exception) -> float:
        if not isinstance(error, CoordinationError | redis.RedisError):
            return super().failed(error)
        logger.warning("the sweeper's round was given up, the next follows: %s", error)
        return self.interval_s

    def finish(self) -> None:
        """Release the lock, so that another process can take over."""
        if self._lock is not None:
            self._lock.release()


def _run_job(job: PeriodicJob) -> object:
    """Run one job; a failure does not prevent the others."""
    try:
        return job()
    except (CoordinationError, redis.RedisError) as error:
        logger.warning("a job of the sweeper failed: %s", error)
        return None
