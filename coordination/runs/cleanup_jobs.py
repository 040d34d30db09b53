"""Cleanup jobs: questions and orders to all workers, for only a worker reaches the files of its machine.

A command posts a job, notifies every worker and collects their answers: `maintenance/cleaning.py` asks for
the artifacts of ended runs and has them removed, `submission/refusals.py` asks where completed results are.
An answer is complete or missing. `workers/cleanup/execution.py` executes the jobs.
"""

from __future__ import annotations

import json
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from redis import Redis

from coordination.backend.keys import Keys
from coordination.errors import Unreachable
from coordination.frozen import FrozenModel
from coordination.messages import MessageBus
from coordination.models.values import RUN_ID, RunId
from coordination.runs.change_sets.records import RepoChange
from coordination.runs.landed_results import ExpectedResult, ResultFinding
from coordination.runs.worker_registry import WorkerRegistry
from coordination.trust.orders import digest

WORKERS, CLEANUP_JOBS = "workers", "cleanup-jobs"
"""The topic that every worker subscribes to, and the type of the message that announces cleanup jobs."""
BEGIN_WITHIN = timedelta(seconds=8)
"""Time in which a worker must begin; more than a heartbeat, at which a worker looks that missed the message.
"""
DONE_WITHIN = timedelta(minutes=30)
POLL_S = 0.05
UNKNOWN_RUN = "00000000-000000-0000"

Record = TypeVar("Record", bound=BaseModel)
logger = logging.getLogger(__name__)


class Kind(StrEnum):
    WORKTREE = "worktree"
    BRANCH = "branch"
    LOGS = "logs"
    CARRIED = "carried"
    """Copies of commits that were made on other hosts."""


class Artifact(FrozenModel):
    """One thing that a run has left on a host: as it was found, and after a removal with the outcome."""

    run: RunId
    kind: Kind
    repo: str = ""
    path: str
    """The folder; for a branch, its repository."""
    bytes: int = 0
    changed: bool = False
    """True if a worktree has something in it that is in no commit, or its HEAD is `loose`."""
    loose: str = ""
    """The commit of its detached HEAD, if no branch or tag has it."""
    unmerged: bool = False
    """True if a branch has a commit that is in no branch except those of runs."""
    branch: str = ""
    """The branch of a change set; empty for that of the run."""
    run_branch: str = ""
    """The branch of the run."""
    stays: str = ""
    """Reason why it is always kept; empty if it can be removed."""
    gone: bool = False
    kept: str = ""
    """The ref below refs/coord/discarded that keeps a commit of it, which nothing else had."""
    host: str = ""

    @property
    def only_copy(self) -> bool:
        """Return whether some work is nowhere else."""
        return self.unmerged or self.changed


class ChangeSetBranch(FrozenModel):
    """The branch of a change set that may be removed: it has landed or is discarded."""

    change_set: str
    repo: str
    branch: str
    tip: str
    run: RunId
    """The newest run that moved it."""
    keep: bool = False
    """True if it is discarded: its tip is kept under refs/coord/discarded."""

    @classmethod
    def of(cls, change_set: str, change: RepoChange, *, keep: bool = False) -> ChangeSetBranch:
        run = change.run if RUN_ID.fullmatch(change.run) else UNKNOWN_RUN
        return cls(
            change_set=change_set, repo=change.repo, branch=change.branch, tip=change.tip, run=run, keep=keep
        )


class CleanupJob(FrozenModel):
    """A job for all workers: things to be found on their machines, or also removed."""

    id: str
    until_ms: int
    """Latest time to begin it."""
    remove: bool = False
    """False: they only report it."""
    runs: tuple[RunId, ...] | None = None
    """The runs whose artifacts are meant; None for every run that left something, except those of `spare`."""
    spare: tuple[str, ...] = ()
    sets: tuple[ChangeSetBranch, ...] = ()
    """The branches of change sets that are meant, too."""
    branches: bool = True
    """False: no branches, neither of runs nor of change sets."""
    tips: Mapping[str, Mapping[str, str]] = {}
    """Run → repository → the commit at which the run left its branch. Further commits are a person's."""
    signed: str = ""
    """The signed order to remove; see `words_to_sign`."""
    sought: tuple[ExpectedResult, ...] = ()
    """Instead of all this: results to look for in the base branches."""

    def words_to_sign(self) -> str:
        """Return what a signature covers: all that decides what is removed. The commits stand in it as
        digests, one for each repository, so that a restricted worker can verify those that it gets.
        """
        of_repo: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for run, tips in self.tips.items():
            for repo, tip in tips.items():
                of_repo[repo][run] = tip
        digests = {repo: digest(_canonical(tips)) for repo, tips in of_repo.items()}
        job = {"id": self.id, "branches": self.branches, "runs": self.runs, "spare": self.spare}
        sets = {"sets": [one.model_dump() for one in self.sets]} if self.sets else {}
        return _canonical({**job, **sets, "tips": digests})

    def is_covered_by(self, words: str) -> bool:
        """Return whether the job is the one of these words, with the commits of some repositories."""
        mine, theirs = json.loads(self.words_to_sign()), json.loads(words)
        tips, all_tips = mine.pop("tips"), theirs.pop("tips")
        sets, all_sets = mine.pop("sets", []), theirs.pop("sets", [])
        covered = tips.items() <= all_tips.items() and all(one in all_sets for one in sets)
        return bool(mine == theirs and covered)

    def asks_for(self, artifact: Artifact) -> bool:
        """Return whether an artifact is meant: a worker may not add to what a person has confirmed."""
        if artifact.branch:
            return any((one.repo, one.branch) == (artifact.repo, artifact.branch) for one in self.sets)
        return artifact.run not in self.spare and (self.runs is None or artifact.run in self.runs)

    def about(self, repos: Container[str]) -> CleanupJob:
        """Return the part of the job that concerns these repositories."""
        tips = {
            run: {repo: tip for repo, tip in of.items() if repo in repos} for run, of in self.tips.items()
        }
        sought = tuple(one for one in self.sought if one.repo in repos)
        sets = tuple(one for one in self.sets if one.repo in repos)
        return self.model_copy(update={"tips": tips, "sought": sought, "sets": sets})


def _canonical(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


class CleanupAnswer(FrozenModel):
    host: str
    done: bool = False
    found: tuple[Artifact, ...] = ()
    landed: tuple[ResultFinding, ...] = ()
    error: str = ""


class CleanupQueue:
    """The posted cleanup jobs and the workers' answers."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    def cleanup_jobs(self) -> list[CleanupJob]:
        """Return the jobs that may still begin; the command of an older one may have died."""
        jobs = readable(CleanupJob, self._redis.hgetall(self._keys.cleanup_jobs), "cleanup job")
        return [job for job in jobs.values() if self._now_ms() < job.until_ms]

    def answer(self, job_id: str, worker_id: str, answer: CleanupAnswer) -> None:
        key = self._keys.cleanup_answers(job_id)
        with self._redis.pipeline() as pipeline:
            pipeline.hset(key, worker_id, answer.model_dump_json())
            pipeline.expire(key, DONE_WITHIN)
            pipeline.execute()

    def post(self, job: CleanupJob) -> None:
        with self._redis.pipeline() as pipeline:
            pipeline.hset(self._keys.cleanup_jobs, job.id, job.model_dump_json())
            pipeline.expire(self._keys.cleanup_jobs, DONE_WITHIN)
            pipeline.execute()
        bus = MessageBus(self._redis, self._keys.namespace)
        bus.broadcast(WORKERS, CLEANUP_JOBS, ttl=2 * BEGIN_WITHIN, ack=False)
        # for workers that may read no inbox
        self._redis.publish(self._keys.messages.mail(f"topic:{WORKERS}"), "")

    def _now_ms(self) -> int:
        return int(self._redis.time()[0]) * 1000

    def answers(self, job_id: str) -> dict[str, CleanupAnswer]:
        """Return worker → its answer, begun or done."""
        return readable(
            CleanupAnswer, self._redis.hgetall(self._keys.cleanup_answers(job_id)), "answer of worker"
        )

    def remove(self, job_id: str) -> None:
        self._redis.hdel(self._keys.cleanup_jobs, job_id)
        self._redis.delete(self._keys.cleanup_answers(job_id))


def ask_workers(
    queue: CleanupQueue, registry: WorkerRegistry, job: CleanupJob, repos: Container[str] | None = None
) -> tuple[list[CleanupAnswer], tuple[str, ...]]:
    """Return the complete answers of the workers that serve one of `repos` (None: of all workers), and the
    workers without a complete answer. Raise Unreachable if no such worker runs.
    """
    asked = {w.id for w in registry.workers() if repos is None or any(repo in repos for repo in w.repos)}
    if not asked:
        raise Unreachable(
            "no worker is running, and only workers can clean their machines",
            "start one where the repositories are: coord worker --all",
        )
    try:
        queue.post(job)
        answers = _gathered(queue, job, lambda: {w.id for w in registry.workers()} & asked)
    finally:
        queue.remove(job.id)
    answers = {worker: answer for worker, answer in answers.items() if worker in asked}
    complete = [answer for answer in answers.values() if answer.done and not answer.error]
    errors = {worker: answer.error for worker, answer in answers.items() if answer.error}
    silent = [worker for worker in sorted(asked) if worker not in answers or not answers[worker].done]
    return complete, (*silent, *(f"{worker}: {why}" for worker, why in errors.items()))


def _gathered(
    queue: CleanupQueue, job: CleanupJob, alive: Callable[[], set[str]]
) -> dict[str, CleanupAnswer]:
    began = time.monotonic()
    waited_for = alive()
    while True:
        answers = queue.answers(job.id)
        waited_for &= alive()  # a worker that dies meanwhile will not answer
        if time.monotonic() - began > BEGIN_WITHIN.total_seconds():
            waited_for &= set(answers)
        if not any(worker not in answers or not answers[worker].done for worker in waited_for):
            return answers
        time.sleep(POLL_S)


def readable(kind: type[Record], rows: Mapping[str, str], what: str) -> dict[str, Record]:
    """Return the rows as records; log and skip rows that cannot be read, so that they do not block the
    others.
    """
    found = {}
    for name, row in rows.items():
        try:
            found[name] = kind.model_validate_json(row)
        except ValidationError as error:
            logger.warning("the %s %s cannot be read: %s", what, name, str(error).partition("\n")[0])
    return found


def reported(job: CleanupJob, answers: Iterable[CleanupAnswer]) -> tuple[Artifact, ...]:
    """Return each artifact of the job once: those of runs, by run, then the branches of change sets.

    Two workers of a host may have reported the same one; it is gone if either has removed it.
    """
    things: dict[tuple[bool, str, str, str, str, str], Artifact] = {}
    for answer in answers:
        for one in filter(job.asks_for, answer.found):
            key = (bool(one.branch), one.run, answer.host, one.repo, one.kind, one.path + one.branch)
            if key not in things or one.gone:
                things[key] = one.model_copy(update={"host": answer.host})
    return tuple(things[key] for key in sorted(things))
