"""The sweeper periodically removes entries that dead processes left in queues and indexes, and runs other
periodic jobs.

Waiting requests do not depend on it, because they notice themselves when a holder has expired. It handles
names that nobody requests again, index entries of owners that never released, and todos that wait behind an
expired share of a resource. It runs in the maintenance leader; two at once would do no harm, since the second
finds nothing left to remove.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import redis

from coordination.backend.step_connection import StepConnection
from coordination.backend.steps import lock as steps
from coordination.background import BackgroundService
from coordination.errors import CoordinationError
from coordination.locks.core import LockCore
from coordination.locks.listing import batches

EVERY = timedelta(seconds=30)

logger = logging.getLogger(__name__)

PeriodicJob = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class SweepReport:
    """Counts of one round."""

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
    name = "sweeper"

    def __init__(
        self,
        client: redis.Redis,
        namespace: str,
        *,
        periodic_jobs: Sequence[PeriodicJob] = (),
        every: timedelta = EVERY,
    ) -> None:
        super().__init__()
        self._core = LockCore(StepConnection(client), namespace, None)
        self._periodic_jobs = tuple(periodic_jobs)
        self.interval_s = every.total_seconds()

    def stop(self) -> None:
        super().stop()
        self._core.close()

    def run_once(self) -> SweepReport:
        swept = replace(self._names(), owners=self._owners())
        return replace(swept, periodic_jobs=tuple(map(_run_job, self._periodic_jobs)))

    def _names(self) -> SweepReport:
        core = self._core
        swept = [core.call(steps.Sweep(names=part)) for part in batches(core.connection, core.keys.names)]
        return SweepReport(
            places=sum(one.places for one in swept),
            shares=sum(one.shares for one in swept),
            handed=sum(one.granted for one in swept),
            idle=sum(one.idle for one in swept),
        )

    def _owners(self) -> int:
        core = self._core
        return sum(
            core.call(steps.SweepOwners(parties=part)) for part in batches(core.connection, core.keys.parties)
        )

    def failed(self, error: Exception) -> float:
        if not isinstance(error, CoordinationError | redis.RedisError):
            return super().failed(error)
        logger.warning("the sweeper's round was given up, the next follows: %s", error)
        return self.interval_s


def _run_job(job: PeriodicJob) -> object:
    """Run one job; a failure does not prevent the others."""
    try:
        return job()
    except (CoordinationError, redis.RedisError) as error:
        logger.warning("a job of the sweeper failed: %s", error)
        return None
