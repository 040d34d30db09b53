"""Remove what ended runs have left on the workers' machines, after a person's confirmation.

**Found** are worktrees, branches, logs and transferred commits of ended runs, and the branches of change sets
that have landed or are discarded. Only workers reach them, so both steps are cleanup jobs to all workers
(`runs/cleanup_jobs.py`), and workers that do not answer are named:

1. `survey`: each worker reports what it finds, what it would keep and why. Nothing is removed.
2. **A person decides**: `coord run clean` shows the survey and asks. Without a person, or with `--yes`, the
   only copy of work is refused (`refuse_only_copies`).
3. `remove`: **the workers remove**. The job names the runs of the survey, and is signed where this user has a
   key. Each worker verifies it and decides again at that moment; the survey only informs the person. Then the
   logs, values and bundles in Redis go, too.

**Never removed** is anything of a live run, of a run whose rollback failed, or of a run that such a one
continues; this module leaves them out. A worker keeps, with the reason, a worktree in use, or one that git
does not know as a worktree of its repository; a branch with commits that no run has recorded, or that is
checked out elsewhere; and it does not look at names that coord does not give (`workers/cleanup/artifacts.py`,
`branches.py`). The commits of an unmerged branch that is removed stay below `refs/coord/discarded`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from coordination.durations import ms
from coordination.environment import actor
from coordination.errors import Conflict, NotFound
from coordination.models.values import RUN_ID
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.cleanup_jobs import (
    BEGIN_WITHIN,
    Artifact,
    ChangeSetBranch,
    CleanupJob,
    CleanupQueue,
    ask_workers,
    reported,
)
from coordination.runs.maintenance.expiry import forget_bundles, forget_contexts, forget_logs
from coordination.runs.records import TAKES_UP, RunStatus
from coordination.runs.store import RunStore
from coordination.runs.submission.draft import Signing, hosts_of
from coordination.runs.views.run_view import RunReader
from coordination.runs.worker_registry import WorkerRegistry
from coordination.text import quoted
from coordination.trust.orders import Operation, OperationKind, seal_operation, times

FORGOTTEN = "forgotten"
SIGNED_FOR = timedelta(minutes=10)
"""Validity of a signed job: clocks of machines differ by seconds."""
ASKED_AT_ONCE = 500
ENDED = frozenset(status for status in RunStatus if status.ended)
SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class EndedRun:
    """The record of an ended run in Redis."""

    status: str
    """Or `forgotten`, if Redis has deleted its records."""
    ended_ms: int
    tips: Mapping[str, str]
    """Repository → the commit at which the run left its branch."""
    hosts: tuple[str, ...]
    """Hosts where it worked."""

    @classmethod
    def of(cls, meta: Mapping[str, str], tips: Mapping[str, str]) -> EndedRun:
        hosts = tuple(hosts_of(meta).values())
        ended_ms = int(meta.get("finished_at") or 0)
        return cls(status=meta["status"], ended_ms=ended_ms, tips=tips, hosts=hosts)

    @classmethod
    def forgotten(cls, run_id: str) -> EndedRun:
        """Return a run without records. It began, by its id, before it ended; 0 without such a day."""
        try:
            begun = datetime.strptime(run_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            return cls(status=FORGOTTEN, ended_ms=0, tips={}, hosts=())
        return cls(status=FORGOTTEN, ended_ms=int(begun.timestamp() * 1000), tips={}, hosts=())


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The artifacts that the workers have found, or removed and kept."""

    found: tuple[Artifact, ...]
    runs: Mapping[str, EndedRun]
    """The runs that left them, by id."""
    kept: tuple[Artifact, ...] = ()
    """Only copies in runs that were left out because not all of their work is merged."""
    silent: tuple[str, ...]
    """Living workers that did not answer, with the reason if they gave one."""
    absent: tuple[str, ...]
    """Hosts where one of the runs worked and that have no living worker."""

    @property
    def removable(self) -> tuple[Artifact, ...]:
        return tuple(r for r in self.found if not r.stays)

    @property
    def only_copies(self) -> tuple[Artifact, ...]:
        """Return the branches and worktrees whose removal would delete the only copy of work."""
        return tuple(r for r in self.removable if r.only_copy)

    def only_merged(self) -> Survey:
        """Return the survey of the runs whose work is all merged and unchanged since."""
        kept = tuple(r for r in self.found if r.only_copy)
        left_out = {r.run for r in kept}
        return replace(self, found=tuple(r for r in self.found if r.run not in left_out), kept=kept)

    def ended_before(self, at_ms: int) -> Survey:
        return replace(self, found=tuple(r for r in self.found if self.runs[r.run].ended_ms < at_ms))

    def refuse_only_copies(self) -> None:
        """Raise Conflict where the only copy of work would be removed."""
        copies = self.only_copies
        if copies:
            commit = "commit it there; " if any(r.changed and not r.loose for r in copies) else ""
            if loose := next((r.path for r in copies if r.loose), ""):
                commit += f"keep the commits on a branch: git -C {quoted(loose)} branch NAME; "
            keep = "" if commit else "; or leave branches where they are: --keep-branches"
            raise Conflict(
                f"this would delete the only copy of: {in_words(copies)}",
                f"{commit}remove what is merged: coord run clean --merged --yes; "
                f"or this too: coord run clean --unmerged --yes{keep}",
            )


def in_words(copies: Sequence[Artifact]) -> str:
    """Return the folders of worktrees and the branches as text, some of each."""
    folders = [f"{r.path} on {r.host}" for r in copies if r.changed and not r.loose]
    loose = [f"{r.path} on {r.host}" for r in copies if r.loose]
    branches = [f"{r.run_branch} of {r.repo}" for r in copies if r.unmerged]
    parts = [
        f"{label} {', '.join(names[:SHOWN])}"
        + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        for label, names in (
            ("uncommitted changes:", folders),
            ("commits on no branch, at HEAD of:", loose),
            ("unmerged branches:", branches),
        )
        if names
    ]
    return "; ".join(parts)


class Cleaning:
    """Surveys and removes artifacts through cleanup jobs."""

    def __init__(self, store: RunStore, signing: Signing | None = None) -> None:
        """`signing`: the identity that signs what is to be removed."""
        self._store = store
        self._signing = signing
        self._queue = CleanupQueue(store.redis, store.keys)
        self._registry = WorkerRegistry(store.redis, store.keys)
        self._reader = RunReader(store.redis, store.keys)

    def survey(
        self,
        named: Sequence[str],
        *,
        branches: bool = True,
        merged: bool = False,
        older_than: timedelta | None = None,
    ) -> Survey:
        """Return what these runs have left (all ended runs if none is named). Raise Conflict for a live run,
        and one whose rollback failed.

        `merged`: only of runs whose work is all merged. `older_than`: only of runs that ended longer ago.
        """
        runs = tuple(dict.fromkeys(self._resolved(name) for name in named)) or None
        needed = self._needed()
        for run_id in runs or ():
            if run_id in needed:
                raise Conflict(
                    f"run {run_id} {needed[run_id]}", f"look: coord show-run {run_id}; clean up afterwards"
                )
        found = self._ask(runs=runs, spare=tuple(needed), sets=self._landed(runs), branches=branches)
        if older_than:
            found = found.ended_before(self._store.now_ms() - ms(older_than))
        return found.only_merged() if merged else found

    def remove(self, survey: Survey, *, branches: bool = True) -> Survey:
        """Remove what the survey found, as far as the workers allow; return what was removed and what was
        kept.
        """
        needed = self._needed()  # a run may have been retried or rolled back since the survey
        runs = tuple(dict.fromkeys(r.run for r in survey.found if r.run not in needed))
        seen = {(r.repo, r.branch) for r in survey.found if r.branch}
        sets = [one for one in self._landed(runs) if (one.repo, one.branch) in seen]
        removed = self._ask(OperationKind.CLEAN, runs=runs, sets=sets, branches=branches)
        building = {run for one in ChangeSets(self._store).read_all().values() for run in one.runs}
        for run_id in runs:
            forget_logs(self._store, run_id)
            if run_id not in building:  # else the next run of the change set needs its values and commits
                self._forget_work(run_id, [r for r in removed.found if r.run == run_id], branches=branches)
        return replace(removed, kept=survey.kept)

    def look_at_sets(self, sets: Sequence[ChangeSetBranch]) -> Survey:
        """Return the branches of these change sets, with the reasons why some stay."""
        return self._ask(runs=(), sets=sets)

    def discard(self, sets: Sequence[ChangeSetBranch]) -> Survey:
        """Remove the branches of these change sets; their tips stay under refs/coord/discarded."""
        return self._ask(OperationKind.DISCARD, runs=(), sets=sets)

    def _landed(self, runs: Sequence[str] | None) -> list[ChangeSetBranch]:
        """Return the branches whose work has landed, of change sets that these runs moved last."""
        return [
            ChangeSetBranch.of(name, change)
            for name, one in ChangeSets(self._store).read_all().items()
            for change in one.repos.values()
            if change.landed and RUN_ID.fullmatch(change.run) and (runs is None or change.run in runs)
        ]

    def _forget_work(self, run_id: str, artifacts: Sequence[Artifact], *, branches: bool) -> None:
        """Delete the values and commits of a run in Redis, and announce what was removed."""
        forget_contexts(self._store, run_id)
        gone = [r for r in artifacts if r.gone]
        if branches and len(gone) == len(artifacts):
            forget_bundles(self._store, run_id)
        repos, data = sorted({r.repo for r in gone}), {"removed": str(len(gone))}
        self._store.announce("run.cleaned", run_id, run=run_id, actor=actor(), repos=repos, data=data)

    def _resolved(self, name: str) -> str:
        try:
            return self._reader.resolve(name)
        except NotFound:
            if RUN_ID.fullmatch(name):  # Redis has deleted it, a folder may still exist
                return name
            raise

    def _needed(self) -> dict[str, str]:
        """Return the runs that must not be touched, each with the reason."""
        half = dict.fromkeys(
            self._reader.half_undone(),
            "has a failed rollback, and the compensations need its branches and worktrees",
        )
        needed = half | dict.fromkeys(self._store.live_runs(), "is live")
        for run_id, why in tuple(needed.items()):
            takes_up = self._store.redis.hget(self._store.keys.run(run_id).meta, TAKES_UP)
            for earlier in (takes_up or "").split():
                needed.setdefault(earlier, f"is continued by run {run_id}, which {why}")
        return needed

    def _ask(
        self,
        removal: OperationKind | None = None,
        *,
        runs: tuple[str, ...] | None,
        spare: tuple[str, ...] = (),
        sets: Sequence[ChangeSetBranch] = (),
        branches: bool = True,
    ) -> Survey:
        """Return what the workers report. `removal`: why they remove it; None to look only. The others: as in
        CleanupJob.
        """
        ended = self._ended()
        job = CleanupJob(
            id=uuid.uuid4().hex,
            until_ms=self._store.now_ms() + ms(2 * BEGIN_WITHIN),
            remove=removal is not None,
            runs=runs,
            spare=spare,
            sets=tuple(sets),
            branches=branches,
            tips={run_id: run.tips for run_id, run in ended.items() if run.tips},
        )
        if removal and self._signing:
            job = job.model_copy(update={"signed": self._signed(self._signing, job, removal)})
        answers, silent = ask_workers(self._queue, self._registry, job)
        found = self._of_ended(reported(job, answers), ended)
        worked = {host for id_, run in ended.items() if runs is None or id_ in runs for host in run.hosts}
        there = {answer.host for answer in answers} | {one.host for one in self._registry.workers()}
        return Survey(
            found=found,
            runs={r.run: ended.get(r.run) or EndedRun.forgotten(r.run) for r in found},
            silent=silent,
            absent=tuple(sorted(worked - there)),
        )

    def _signed(self, signing: Signing, job: CleanupJob, kind: OperationKind) -> str:
        operation = Operation(
            operation=kind,
            **self._store.audience(signing.ecosystem).fields(),
            run="",
            job=job.words_to_sign(),
            **times(SIGNED_FOR),
        )
        return seal_operation(operation, signing.signer)

    def _of_ended(self, found: tuple[Artifact, ...], ended: Mapping[str, EndedRun]) -> tuple[Artifact, ...]:
        """Return the artifacts without those of runs that began or ended while the workers looked."""
        others = {r.run for r in found} - set(ended)
        known = {run_id for run_id in others if self._store.status(run_id) is not None}
        return tuple(r for r in found if r.run not in known)

    def _ended(self) -> dict[str, EndedRun]:
        keys, ids = self._store.keys, self._store.redis.zrange(self._store.keys.runs, 0, -1)
        ended = {}
        for start in range(0, len(ids), ASKED_AT_ONCE):
            piece = ids[start : start + ASKED_AT_ONCE]
            with self._store.redis.pipeline(transaction=False) as pipeline:
                for run_id in piece:
                    pipeline.hgetall(keys.run(run_id).meta)
                    pipeline.hgetall(keys.run(run_id).tips)
                rows = pipeline.execute()
            for run_id, meta, tips in zip(piece, rows[::2], rows[1::2], strict=True):
                if meta.get("status") in ENDED:  # any other status is not one of coord
                    ended[run_id] = EndedRun.of(meta, tips)
        return ended
