"""What a worker does besides todos: jobs that a command has ordered from every worker, and its own clean-up now and then.

In a thread of its own, for a job may take minutes. Two workers that share a state folder take turns: the second finds
gone what the first has removed.

The own clean-up removes worktrees of runs that succeeded, and commits that were carried here; branches and logs stay. Of runs that were
rolled back it removes the carried commits; of all others nothing, for people to look at.
"""

from __future__ import annotations

import fcntl
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import redis
from pydantic import ValidationError

from coordination.errors import CoordinationError
from coordination.files import make_private, open_private
from coordination.runs.cleanup_jobs import Answer, Artifact, CleanupJob, CleanupQueue, Kind
from coordination.runs.presence import Worker
from coordination.runs.records import RunStatus
from coordination.runs.store import RunStore
from workers.cleanup.artifacts import RunArtifacts
from workers.cleanup.landed import findings

if TYPE_CHECKING:
    from workers.app import WorkerConfig


LOOK_EVERY_S = 5.0
"""For an errand that nobody told us of."""
CHORES_EVERY_S = 15.0

logger = logging.getLogger(__name__)


class CleanupJobs:
    def __init__(
        self,
        cleanup_queue: CleanupQueue,
        worker: Worker,
        config: WorkerConfig,
        chores: Iterable[Callable[[], object]] = (),
    ) -> None:
        self._cleanup_queue = cleanup_queue
        self._worker = worker
        self._config = config
        self._chores = tuple(chores)
        self._next_chores = time.monotonic() + CHORES_EVERY_S
        self._answered: set[str] = set()
        self._came_to: dict[str, Answer] = {}
        self._stopping = threading.Event()
        self._asked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="errands", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._asked.set()

    def look(self) -> None:
        """There may be an errand: look now."""
        self._asked.set()

    def run_once(self) -> list[CleanupJob]:
        """Carries out the errands that are new, and returns them. What Redis did not hear is answered again, and not done again."""
        there = {errand.id: errand for errand in self._cleanup_queue.errands()}
        self._answered &= there.keys()
        self._came_to = {id_: answer for id_, answer in self._came_to.items() if id_ in there}
        new = [errand for errand in there.values() if errand.id not in self._answered]
        for errand in new:
            if errand.id not in self._came_to:
                self._cleanup_queue.answer(errand.id, self._worker.id, Answer(host=self._worker.host))
                self._came_to[errand.id] = self._carry_out(errand)
            self._cleanup_queue.answer(errand.id, self._worker.id, self._came_to[errand.id])
            self._answered.add(errand.id)
        return new

    def _carry_out(self, errand: CleanupJob) -> Answer:
        try:
            if errand.sought:  # it reads only: whoever cleans up meanwhile does not matter
                landed = tuple(findings(self._config.places, errand.sought))
                return Answer(host=self._worker.host, done=True, landed=landed)
            with self._turn():
                found = tuple(self._found(errand))
        except (CoordinationError, OSError) as error:
            logger.exception("an errand failed")
            return Answer(host=self._worker.host, done=True, error=str(error))
        return Answer(host=self._worker.host, done=True, found=found)

    def _found(self, errand: CleanupJob) -> Iterator[Artifact]:
        remains = RunArtifacts(self._config.state, self._config.places, errand.tips.values())
        runs = remains.runs() if errand.runs is None else errand.runs
        for run in runs:
            if run not in errand.spare:
                found = remains.of(run, branches=errand.branches)
                yield from map(remains.remove, found) if errand.remove else found

    @contextmanager
    def _turn(self) -> Iterator[None]:
        make_private(self._config.state)
        with open_private(self._config.state / "errands.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._asked.clear()
            try:
                self.run_once()
                self._do_chores()
                self._asked.wait(LOOK_EVERY_S)
            except (redis.RedisError, ValidationError) as error:
                # Redis is away, as the heartbeat says already; or the errand is of another version.
                logger.debug("no errands: %s", error)
                self._stopping.wait(LOOK_EVERY_S)
            except Exception:
                # Nobody else does errands here.
                logger.exception("an errand or a chore failed; the next one follows")
                self._stopping.wait(LOOK_EVERY_S)

    def _do_chores(self) -> None:
        if time.monotonic() < self._next_chores:
            return
        self._next_chores = time.monotonic() + CHORES_EVERY_S
        for chore in self._chores:
            chore()


OVER = (RunStatus.SUCCEEDED, RunStatus.ROLLED_BACK)
"""A run that nobody takes up again."""


class AutoCleanup:
    """Called for a run by the worker that settled its last todo; in rounds, for what that one could not see or reach."""

    def __init__(self, store: RunStore, state: Path, places: Mapping[str, Path]) -> None:
        self._store = store
        self._state = state
        self._places = places

    def run_once(self) -> list[Artifact]:
        """One round; returns what was removed."""
        remains = RunArtifacts(self._state, self._places)
        return [gone for run in remains.worked_in() for gone in _clear(remains, run, self._store.status(run))]

    def clear(self, run: str, status: str) -> list[Artifact]:
        """Of this run, which has ended so."""
        return _clear(RunArtifacts(self._state, self._places), run, status)


def _clear(remains: RunArtifacts, run: str, status: str | None) -> list[Artifact]:
    if status not in OVER:
        return []
    worktrees = remains.worktrees_of(run) if status == RunStatus.SUCCEEDED else []
    removed = []
    for remnant in map(remains.remove, (*worktrees, *remains.folders_of(run, [Kind.CARRIED]))):
        if remnant.gone:
            removed.append(remnant)
        else:
            logger.warning("%s of run %s stays for now: %s", remnant.path, run, remnant.stays)
    return removed
