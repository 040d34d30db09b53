"""Execute cleanup jobs that a command sends to all workers, and clean up automatically after a run.

Workers that share a state folder clean up one after the other, so only the first finds anything.

After a run that succeeded, the automatic cleanup removes its worktrees, its commits that were carried to this
host, and its branches if the branch of the change set contains them; logs stay. Only Redis says that a run
succeeded. If signatures are required, a worktree with uncommitted changes therefore stays, so that a forged
status destroys no work. A worktree with work in submodules that is in no commit of the run stays as well.
After a run that was rolled back, only the carried commits are removed. Everything of other runs stays for
people to inspect.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import redis
from pydantic import ValidationError

from coordination.background import BackgroundService
from coordination.errors import CoordinationError, GitRefused
from coordination.files import locked, make_private
from coordination.git import is_commit
from coordination.runs.attempt_store import AttemptStore
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.cleanup_jobs import (
    Artifact,
    CleanupAnswer,
    CleanupJob,
    CleanupQueue,
    ExpectedResult,
    Kind,
    ResultFinding,
)
from coordination.runs.records import RunStatus
from coordination.runs.worker_registry import Worker
from workers.cleanup.artifacts import RunArtifacts
from workers.cleanup.branches import SetBranch
from workers.cleanup.completed import CompletedWork
from workers.cleanup.landed import Checkout
from workers.workspace.change_set import BranchCopy
from workers.workspace.repository import common_dir_of

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
        try:
            if job.sought:  # a job that only reads need not wait for another cleanup
                landed = tuple(findings(self._places, job.sought))
                return CleanupAnswer(host=self._worker.host, done=True, landed=landed)
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
            return CleanupAnswer(host=self._worker.host, done=True, error=why)
        return CleanupAnswer(host=self._worker.host, done=True, found=found)

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

    def _do_periodic_jobs(self) -> None:
        if time.monotonic() < self._periodic_jobs_at:
            return
        self._periodic_jobs_at = time.monotonic() + PERIODIC_JOBS_EVERY_S
        for job in self._periodic_jobs:
            job()


OVER = (RunStatus.SUCCEEDED, RunStatus.ROLLED_BACK)
"""Final states of a run after which there is nothing to retry."""


class AutoCleanup:
    """Clean up after a run when its last todo settles, and at intervals retry removals that failed."""

    def __init__(
        self,
        store: AttemptStore,
        state: Path,
        places: Mapping[str, Path],
        *,
        spare_changes: bool = False,
        change_sets: ChangeSets | None = None,
    ) -> None:
        """`spare_changes`: keep worktrees with changes that are in no commit. `change_sets`: None for a
        worker that may not read them.
        """
        self._change_sets = change_sets
        self._checked: set[str] = set()
        """The rolled back runs after which the branches of their change sets were checked."""
        self._told: dict[str, str] = {}
        """Path → the reason why it stays, as it was logged."""
        self._spare_changes = spare_changes
        self._store = store
        self._state = state
        self._places = places

    def run_once(self) -> list[Artifact]:
        """Clean up after each ended run that has workspaces here; return the removed artifacts."""
        artifacts, removed = RunArtifacts(self._state, self._places), list[Artifact]()
        for run in artifacts.with_workspaces():
            status = self._store.status(run)
            removed += self._clear(artifacts, run, status)
            if status == RunStatus.ROLLED_BACK:
                self._restore_branches(run)
        return removed

    def _restore_branches(self, run: str) -> None:
        """Set the branches of a change set back to its tips, after a run that was rolled back without this
        worker, because a person accepted its last todos as undone. Only Redis says so; therefore commits
        that a branch loses are kept.
        """
        if self._change_sets is None or run in self._checked:
            return
        self._checked.add(run)
        brief = self._store.brief(run)
        found = self._change_sets.read(brief.change_set) if brief.change_set else None
        for repo, branch in brief.lineage.branches.items():
            if repo not in self._places or (found and (repo in found.writers or repo in found.set_back)):
                continue
            checkout = self._places[repo]
            copy = BranchCopy(checkout=checkout, common_dir=common_dir_of(repo, checkout), branch=branch)
            if why := copy.move(found.tip(repo) if found else ""):
                logger.warning("%s: %s", repo, why)

    def clear(self, run: str, status: str) -> list[Artifact]:
        """Clean up after a run that ended with this status; return the removed artifacts."""
        return self._clear(RunArtifacts(self._state, self._places), run, status)

    def _clear(self, artifacts: RunArtifacts, run: str, status: str | None) -> list[Artifact]:
        if status not in OVER:
            return []
        worktrees = artifacts.worktrees_of(run) if status == RunStatus.SUCCEEDED else []
        worktrees = list(map(artifacts.spared_if_kept, worktrees))
        if self._spare_changes:
            worktrees = list(map(artifacts.spared_if_changed, worktrees))
        removed, branches = [], self._store.brief(run).lineage.branches if worktrees else {}
        for artifact in map(artifacts.remove, (*worktrees, *artifacts.folders_of(run, [Kind.CARRIED]))):
            if artifact.gone:
                removed.append(artifact)
                if (branch := branches.get(artifact.repo)) and artifact.kind is Kind.WORKTREE:
                    artifacts.remove_contained(run, artifact.repo, branch)
            elif self._told.get(artifact.path) != artifact.stays:
                self._told[artifact.path] = artifact.stays
                logger.warning("%s of run %s stays for now: %s", artifact.path, run, artifact.stays)
        return removed


def findings(places: Mapping[str, Path], sought: Iterable[ExpectedResult]) -> Iterator[ResultFinding]:
    """Yield a finding for each result in a repository that this worker serves.

    Its `why` is empty if the result is in the base branch or, for a landing, in the change set.
    """
    served: dict[tuple[str, str, str], list[ExpectedResult]] = {}
    for one in sought:
        if one.repo in places:
            served.setdefault((one.repo, one.branch, one.plan), []).append(one)
    for (repo, branch, plan), results in served.items():
        if plan:
            yield from CompletedWork(places[repo], results).findings()
            continue
        commits = tuple(one.commit for one in results if is_commit(one.commit))
        checkout = Checkout(path=places[repo], revision=f"refs/heads/{branch}", recorded=commits)
        yield from (_found(checkout, one) for one in results)


def _found(checkout: Checkout, one: ExpectedResult) -> ResultFinding:
    known = ResultFinding(todo=one.todo, repo=one.repo, branch=one.branch, run=one.run)
    try:
        if one.commit:
            return known.model_copy(update={"why": checkout.why_not(one)})
        return next(checkout.by_trailers(known), known)
    except GitRefused as refused:
        why = f"its result cannot be looked for: {refused.message}"
        return known.model_copy(update={"why": why}) if one.commit else known
