"""Take the cleanup jobs that a command sends to all workers, and do periodic jobs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import redis
from pydantic import ValidationError

from coordination.background import BackgroundService
from coordination.runs.cleanup_jobs import CleanupAnswer, CleanupJob, CleanupQueue
from coordination.runs.worker_registry import Worker

LOOK_EVERY_S = 5.0
"""Interval at which the queue is read, because the notification of a job may be lost."""
PERIODIC_JOBS_EVERY_S = 15.0

logger = logging.getLogger(__name__)


class CleanupJobs(BackgroundService):
    """Execute cleanup jobs on demand, and the periodic jobs, in one thread: a job may take minutes."""

    name = "cleanup"
    interval_s = LOOK_EVERY_S
    first_at_once = True
    join_s = 0.0
    """A worker that stops does not wait for a job to end: the command asks again."""

    def __init__(
        self,
        queue: CleanupQueue,
        worker: Worker,
        state: Path,
        places: Mapping[str, Path],
        periodic_jobs: Iterable[Callable[[], object]] = (),
        refuse: Callable[[CleanupJob], object] = lambda _: None,
    ) -> None:
        """`refuse` raises NotAllowed for a job without an order by an authorised person."""
        super().__init__()
        self._queue = queue
        self._worker = worker
        self._state = state
        self._places = places
        self._periodic_jobs = tuple(periodic_jobs)
        self._refuse = refuse
        self._periodic_jobs_at = time.monotonic() + PERIODIC_JOBS_EVERY_S
        self._answered: set[str] = set()
        self._results: dict[str, CleanupAnswer] = {}

    def run_once(self) -> list[CleanupJob]:
        """Execute the new cleanup jobs, and the periodic jobs if they are due; return the cleanup jobs.

        An answer that did not reach Redis is sent again, without executing its job again.
        """
        posted = {job.id: job for job in self._queue.cleanup_jobs()}
        self._answered &= posted.keys()
        self._results = {id_: answer for id_, answer in self._results.items() if id_ in posted}
        new = [job for job in posted.values() if job.id not in self._answered]
        for job in new:
            if job.id not in self._results:
                self._queue.answer(job.id, self._worker.id, CleanupAnswer(host=self._worker.host))
                self._results[job.id] = self._execute(job)
            self._queue.answer(job.id, self._worker.id, self._results[job.id])
            self._answered.add(job.id)
        self._do_periodic_jobs()
        return new

    def failed(self, error: Exception) -> float:
        if not isinstance(error, redis.RedisError | ValidationError):
            return super().failed(error)
        # Redis is away, which the heartbeat logs; or another version of coord has written the job.
        logger.debug("no cleanup jobs: %s", error)
        return self.interval_s

    def _execute(self, job: CleanupJob) -> CleanupAnswer:
        from workers.cleanup.execution import CleanupExecution  # a worker gets few jobs, most get none

        return CleanupExecution(self._worker.host, self._state, self._places, self._refuse).execute(job)

    def _do_periodic_jobs(self) -> None:
        if time.monotonic() < self._periodic_jobs_at:
            return
        self._periodic_jobs_at = time.monotonic() + PERIODIC_JOBS_EVERY_S
        for job in self._periodic_jobs:
            job()
