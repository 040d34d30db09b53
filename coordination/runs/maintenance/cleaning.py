"""Survey the artifacts of ended runs on the workers' machines, and remove them after a person's confirmation.

Only workers reach these files, so the command writes a cleanup job, notifies every worker and collects the
answers. In the survey each worker reports what it finds, and what it would keep and why. Then the same job,
with the runs named, removes the rest. Answers are complete or missing; workers that do not answer are named.

The worker decides at the moment of removal what is removed; the survey only informs the person.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
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
    BranchOfSet,
    CleanupJob,
    CleanupQueue,
    ask_workers,
    merged,
)
from coordination.runs.maintenance.expiry import forget_bundles, forget_contexts, forget_logs
from coordination.runs.records import TAKES_UP, RunStatus
from coordination.runs.store import RunStore
from coordination.runs.submission.draft import Signing
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
class EndedRunFacts:
    """Records of an ended run in Redis."""

    status: str
    tips: Mapping[str, str]
    hosts: tuple[str, ...]
    """Hosts where it worked."""
    finished_ms: int = 0


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The artifacts of runs that the workers have found or removed."""

    found: tuple[Artifact, ...]
    statuses: Mapping[str, str]
    """Run → its status, or `forgotten`."""
    silent: tuple[str, ...]
    """Living workers that did not answer, with the reason if they gave one."""
    absent: tuple[str, ...]
    """Hosts where one of the runs worked and that have no living worker."""

    ended_ms: Mapping[str, int]
    """Run → its end, in ms since 1970."""
    kept: tuple[Artifact, ...] = ()
    """Only copies in runs that were left out because not all of their work is merged."""

    @property
    def removable(self) -> tuple[Artifact, ...]:
        return tuple(r for r in self.found if not r.stays)

    @property
    def only_copies(self) -> tuple[Artifact, ...]:
        """Return the branches and worktrees whose removal would delete the only copy of work."""
        return tuple(r for r in self.removable if r.unmerged or r.changed)

    def only(self, *, merged: bool = False, before_ms: int | None = None) -> Survey:
        """Return the survey of the runs whose work is all `merged` and unchanged since, and that ended before
        that time.
        """
        too_late = {run for run, at in self.ended_ms.items() if before_ms is not None and at >= before_ms}
        kept = tuple(r for r in self.found if merged and (r.unmerged or r.changed) and r.run not in too_late)
        left_out = too_late | {r.run for r in kept}
        return replace(self, found=tuple(r for r in self.found if r.run not in left_out), kept=kept)

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

    @property
    def now_ms(self) -> int:
        return self._store.now_ms()

    def survey(self, named: Sequence[str], *, branches: bool = True) -> Survey:
        """Return what these runs have left (all ended runs if none is named). Raise Conflict for a live run,
        and one whose rollback failed.
        """
        chosen = tuple(dict.fromkeys(self._resolved(name) for name in named))
        needed = self._needed()
        for run_id in chosen:
            if run_id in needed:
                raise Conflict(
                    f"run {run_id} {needed[run_id]}", f"look: coord show-run {run_id}; clean up afterwards"
                )
        runs = chosen or None
        sets = self._landed(runs)
        return self._ask(remove=False, branches=branches, runs=runs, spare=tuple(needed), sets=sets)

    def remove(self, survey: Survey, *, branches: bool = True) -> Survey:
        """Remove what the survey found, as far as the workers allow; return what was removed and what was
        kept.
        """
        runs = tuple(dict.fromkeys(r.run for r in survey.found))
        needed = self._needed()  # a run may have been retried or rolled back since the survey
        runs = tuple(r for r in runs if r not in needed)
        found = {(r.repo, r.branch) for r in survey.found if r.branch}
        sets = [one for one in self._landed(runs) if (one.repo, one.branch) in found]
        removed = self._ask(remove=True, branches=branches, runs=runs, sets=sets)
        building = {run for one in ChangeSets(self._store).read_all().values() for run in one.runs}
        for run_id in runs:
            forget_logs(self._store, run_id)
            if run_id in building:
                continue  # the next run of the change set needs its values and commits
            forget_contexts(self._store, run_id)
            if branches and all(r.gone for r in removed.found if r.run == run_id):
                forget_bundles(self._store, run_id)
            self._announce(run_id, [r for r in removed.found if r.run == run_id and r.gone])
        return replace(removed, kept=survey.kept)

    def look_at_sets(self, sets: Sequence[BranchOfSet]) -> Survey:
        """Return the branches of these change sets, with the reasons why some stay."""
        return self._ask(remove=False, branches=True, runs=(), sets=sets)

    def discard(self, sets: Sequence[BranchOfSet]) -> Survey:
        """Remove the branches of these change sets; their tips stay under refs/coord/discarded."""
        return self._ask(remove=True, branches=True, runs=(), sets=sets, kind=OperationKind.DISCARD)

    def _landed(self, runs: Sequence[str] | None) -> tuple[BranchOfSet, ...]:
        """Return the branches whose work has landed, of change sets that these runs moved last."""
        return tuple(
            BranchOfSet(
                change_set=name, repo=change.repo, branch=change.branch, tip=change.tip, run=change.run
            )
            for name, one in ChangeSets(self._store).read_all().items()
            for change in one.repos.values()
            if change.landed and RUN_ID.fullmatch(change.run) and (runs is None or change.run in runs)
        )

    def _announce(self, run_id: str, gone: Sequence[Artifact]) -> None:
        repos = sorted({artifact.repo for artifact in gone})
        self._store.announce(
            "run.cleaned", run_id, run=run_id, actor=actor(), repos=repos, data={"removed": str(len(gone))}
        )

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
        *,
        remove: bool,
        branches: bool,
        runs: tuple[str, ...] | None,
        spare: tuple[str, ...] = (),
        sets: Sequence[BranchOfSet] = (),
        kind: OperationKind = OperationKind.CLEAN,
    ) -> Survey:
        ended = self._ended()
        job = CleanupJob(
            id=uuid.uuid4().hex,
            until_ms=self._store.now_ms() + ms(2 * BEGIN_WITHIN),
            remove=remove,
            branches=branches,
            runs=runs,
            spare=spare,
            sets=tuple(sets),
            tips={run_id: known.tips for run_id, known in ended.items() if known.tips},
        )
        if remove and self._signing:
            job = job.model_copy(update={"signed": self._signed(self._signing, job, kind)})
        answers, silent = ask_workers(self._queue, self._registry, job)
        found = self._of_ended(_asked_for(merged(answers), job), ended)
        there = {answer.host for answer in answers}
        concerned = [known for run_id, known in ended.items() if runs is None or run_id in runs]
        hosts = {host for known in concerned for host in known.hosts}
        return Survey(
            found=found,
            ended_ms={r.run: _ended_ms(r.run, ended.get(r.run)) for r in found},
            statuses={r.run: ended[r.run].status if r.run in ended else FORGOTTEN for r in found},
            silent=silent,
            absent=tuple(sorted(hosts - there - {worker.host for worker in self._registry.workers()})),
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

    def _of_ended(
        self, found: tuple[Artifact, ...], ended: Mapping[str, EndedRunFacts]
    ) -> tuple[Artifact, ...]:
        """Return the artifacts without those of runs that began or ended while the workers looked."""
        others = {r.run for r in found} - set(ended)
        known = {run_id for run_id in others if self._store.status(run_id) is not None}
        return tuple(r for r in found if r.run not in known)

    def _ended(self) -> dict[str, EndedRunFacts]:
        ids = self._store.redis.zrange(self._store.keys.runs, 0, -1)
        known = {}
        for start in range(0, len(ids), ASKED_AT_ONCE):
            piece = ids[start : start + ASKED_AT_ONCE]
            with self._store.redis.pipeline(transaction=False) as pipeline:
                for run_id in piece:
                    pipeline.hgetall(self._store.keys.run(run_id).meta)
                    pipeline.hgetall(self._store.keys.run(run_id).tips)
                rows = pipeline.execute()
            for run_id, meta, tips in zip(piece, rows[::2], rows[1::2], strict=True):
                if meta.get("status") in ENDED:  # any other status is not one of coord
                    hosts = tuple(value for name, value in meta.items() if name.startswith("host."))
                    finished_ms = int(meta.get("finished_at") or 0)
                    known[run_id] = EndedRunFacts(
                        status=meta["status"], tips=tips, hosts=hosts, finished_ms=finished_ms
                    )
        return known


def _asked_for(found: Iterable[Artifact], job: CleanupJob) -> tuple[Artifact, ...]:
    """Return the artifacts in the job: a worker may not add to what the person has confirmed."""
    sets = {(one.repo, one.branch) for one in job.sets}
    of_sets = tuple(r for r in found if (r.repo, r.branch) in sets)
    of_runs = (r for r in found if not r.branch and r.run not in job.spare)
    return (*(r for r in of_runs if job.runs is None or r.run in job.runs), *of_sets)


def _ended_ms(run_id: str, known: EndedRunFacts | None) -> int:
    """Return the end of a run; if Redis has deleted its records, its start by its id, which is earlier."""
    if known is not None:
        return known.finished_ms
    try:
        begun = datetime.strptime(run_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:  # no day of the calendar: unknown
        return 0
    return int(begun.timestamp() * 1000)
