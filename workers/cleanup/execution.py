"""Execute a cleanup job that a command sends to all workers.

Workers that share a state folder clean up one after the other, so only the first finds anything.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import redis

from coordination.errors import CoordinationError
from coordination.files import locked, make_private
from coordination.runs.cleanup_jobs import Artifact, CleanupAnswer, CleanupJob
from workers.cleanup.artifacts import RunArtifacts
from workers.cleanup.branches import SetBranch
from workers.cleanup.completed import findings

logger = logging.getLogger(__name__)


class CleanupExecution:
    def __init__(
        self,
        host: str,
        state: Path,
        places: Mapping[str, Path],
        refuse: Callable[[CleanupJob], object],
    ) -> None:
        """`refuse` raises NotAllowed for a job without an order by an authorised person."""
        self._host = host
        self._state = state
        self._places = places
        self._refuse = refuse

    def execute(self, job: CleanupJob) -> CleanupAnswer:
        """Return the answer; an error becomes one, too, except one of Redis."""
        try:
            if job.sought:  # a job that only reads need not wait for another cleanup
                landed = tuple(findings(self._places, job.sought))
                return CleanupAnswer(host=self._host, done=True, landed=landed)
            if job.remove:
                self._refuse(job)
            with self._turn():
                found = tuple(self._artifacts(job))
        except redis.RedisError:  # the job is done again when Redis is back
            raise
        except Exception as error:  # one without an answer would let its command wait
            logger.exception("a cleanup job failed")
            known = isinstance(error, CoordinationError | OSError)
            why = str(error) if known else f"{type(error).__name__}: {error}"
            return CleanupAnswer(host=self._host, done=True, error=why)
        return CleanupAnswer(host=self._host, done=True, found=found)

    def _artifacts(self, job: CleanupJob) -> Iterator[Artifact]:
        artifacts = RunArtifacts(self._state, self._places, job.tips.values())
        runs = artifacts.runs() if job.runs is None else job.runs
        for run in runs:
            if run not in job.spare:
                found = artifacts.of(run, branches=job.branches)
                yield from map(artifacts.remove, found) if job.remove else found
        for one in job.sets if job.branches else ():
            if one.repo in self._places:
                branch = SetBranch(wanted=one, checkout=self._places[one.repo])
                artifact = branch.remove() if job.remove else branch.artifact()
                yield from (artifact,) if artifact else ()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        make_private(self._state)
        with locked(self._state / "cleanup.lock"):
            yield
