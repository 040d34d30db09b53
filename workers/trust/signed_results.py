"""Sign the results of this worker's attempts, and check the results on which its todos build.

The rules are in trust/results.py. The setting `signatures` decides what happens with a result that is not
signed by a trusted worker, or differs from the data in Redis (worker_trust.py); under `require` the todo is
refused, or a cached result passed over, and that is announced.

Records that were verified are kept in memory, so that a worker reads and verifies the result of each todo of
a run once, however many todos build on it. They are forgotten when the trust file changes.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from coordination.backend.steps.run import Undo
from coordination.errors import CoordinationError, NotTrusted, Unsafe
from coordination.models import InWorker, Workspace
from coordination.planner.gates import MILESTONE_REPO
from coordination.runs.attempt_store import Grant, PredecessorOutput, TodoInputs, check_output
from coordination.runs.change_sets.records import Landed
from coordination.runs.records import ReadRepo, Result, RunBrief, TodoState
from coordination.trust.orders import Audience
from coordination.trust.results import (
    COMPENSATED,
    RESULT,
    AdoptionRecord,
    CachedRecord,
    LandingRecord,
    ResultRecord,
    check_adoption,
    check_cached,
    check_change_set,
    check_landed,
    check_set_result,
    check_tip,
    check_undone,
    digest,
    foreign,
    is_adoption,
    open_cached,
    open_landing,
    open_result,
    seal_cached,
    seal_landing,
    seal_result,
)
from coordination.trust.trust_file import TrustFile
from workers.trust.worker_trust import WorkerKey, WorkerTrust

Report = Callable[[Grant, str], None]
"""Announces that something was refused because of its signature."""

RECORDS_KEPT, ENVELOPES_KEPT = 20_000, 1000
"""Verified records in memory, by todo and by envelope: 20 MB at most."""
NO_FENCE, ANY_FENCE = -1, 2**63
"""The last fence in a repository without a result of the run; where it does not matter."""

K = TypeVar("K")
logger = logging.getLogger(__name__)


class SignedResults:
    """Signs and checks. Any thread may call it."""

    def __init__(
        self,
        *,
        key: WorkerKey,
        trust: WorkerTrust,
        report: Report,
        here: Callable[[], Audience],
        ordered_on: Callable[[str], str],
    ) -> None:
        """`here` returns the audience of this worker; `ordered_on` the server on which a run was ordered."""
        self._key = key
        self._here = here
        self._ordered_on = ordered_on
        self._worker_trust = trust
        self._report = report
        self._used: TrustFile | None = None
        """The trust file by which the records in memory were verified."""
        self._known: OrderedDict[tuple[str, str], ResultRecord] = OrderedDict()
        """Run and todo → the verified record."""
        self._opened: OrderedDict[str, ResultRecord] = OrderedDict()
        """Envelope → its verified record: one is the tip's, and that of a predecessor, too."""
        self._guard = threading.Lock()

    @property
    def checks(self) -> bool:
        """Return whether signatures are looked at."""
        return self._worker_trust.checks

    @property
    def origin(self) -> Mapping[str, str] | None:
        """Return the fields of a record that say where it was signed; None while the disk is unusable."""
        try:
            return self._here().origin()
        except OSError as error:
            logger.warning("results are not signed: %s", error)
            return None

    def seal(self, grant: Grant, result: Result, change_set: str = "") -> str:
        """Return the signed record of a result, for its settle; empty where the key cannot be made.
        `change_set`: that of its run.
        """
        succeeded = result.outcome is TodoState.SUCCEEDED
        if grant.undo is not None:
            return self._seal(grant, COMPENSATED if succeeded else TodoState.COMPENSATION_FAILED)
        output = digest(result.output) if succeeded else ""
        since = result.figures.partition(" ")[0] if change_set else ""
        return self._seal(
            grant,
            result.outcome,
            base=result.began,
            tip=result.tip,
            output=output,
            change_set=change_set,
            since=since,
        )

    def seal_tip(self, grant: Grant, tip: str, base: str, change_set: str) -> str:
        """Return the signed record of the tip of a change set that was opened again, also by a compensation;
        empty where the key cannot be made. `base`: the commit of the base branch that it has.
        """
        return self._seal(grant, TodoState.SUCCEEDED, base=base, tip=tip, change_set=change_set, since=base)

    def _seal(
        self,
        grant: Grant,
        outcome: str,
        *,
        base: str = "",
        tip: str = "",
        output: str = "",
        change_set: str = "",
        since: str = "",
    ) -> str:
        signer, origin = self._key.load_or_log(), self.origin
        if signer is None or origin is None:
            return ""
        record = ResultRecord(
            **origin,
            run=grant.run_id,
            todo=grant.todo_id,
            attempt=grant.attempt,
            fence=grant.fence,
            repo=grant.spec.repo.name,
            base=base,
            tip=tip,
            output=output,
            outcome=str(outcome),
            change_set=change_set,
            since=since,
        )
        return seal_result(record, signer)

    def check_landing(self, grant: Grant, tip: str, signed: str, change_set: str) -> str | None:
        """Check that a worker has signed the result with this tip for the change set, or that a person has
        adopted it. Return the commit at which the change set began, as it was signed, empty if it was not;
        None where signatures are not required.

        Raises NotAllowed, if that is required.
        """
        since = ""

        def check() -> None:
            nonlocal since
            since = self._began(grant, grant.spec.repo.name, tip, signed, change_set)

        self._enforce(grant, check)
        return since if self._worker_trust.requires else None

    def check_read(self, grant: Grant, read: ReadRepo, change_set: str) -> None:
        """Check the same for the tip at which an agent sees another repository."""

        def check() -> None:
            self._began(grant, read.repo, read.tip, read.signed, change_set)

        self._enforce(grant, check)

    def _began(self, grant: Grant, repo: str, tip: str, signed: str, change_set: str) -> str:
        if is_adoption(signed):
            return self._check_adoption(repo, signed, tip, change_set).base
        record = self._open(signed, self._trust(), grant.run_id)
        check_set_result(record, change_set=change_set, repo=repo, tip=tip)
        return record.since

    def _check_adoption(self, repo: str, signed: str, tip: str, change_set: str) -> AdoptionRecord:
        return check_adoption(
            signed,
            self._trust(),
            datetime.now(UTC),
            here=self._here(),
            change_set=change_set,
            repo=repo,
            tip=tip,
        )

    def seal_landing(self, grant: Grant, change_set: str, tip: str, landed: Landed) -> Landed:
        """Return the landing with the signed record of it, or without one where the key cannot be made."""
        signer, origin = self._key.load_or_log(), self.origin
        if signer is None or origin is None:
            return landed
        record = LandingRecord(
            **origin,
            run=landed.run,
            repo=grant.spec.repo.name,
            change_set=change_set,
            tip=tip,
            commit=landed.commit,
            tree_before=landed.tree_before,
            method=landed.method,
        )
        return landed.model_copy(update={"signed": seal_landing(record, signer)})

    def check_landed(self, grant: Grant, change_set: str, landed: Landed) -> None:
        """Check that a worker has signed this landing of the change set in the repository of the todo. Raises
        NotAllowed, if that is required.
        """

        def check() -> None:
            record = open_landing(landed.signed, self._trust(), datetime.now(UTC))
            self._here().check_origin("signed landing", record)
            check_landed(
                record,
                run=landed.run,
                repo=grant.spec.repo.name,
                change_set=change_set,
                commit=landed.commit,
                tree_before=landed.tree_before,
                method=landed.method,
            )

        self._enforce(grant, check)

    def check_start(self, grant: Grant, brief: RunBrief) -> None:
        """Check where a todo begins, and what it undoes. Raises NotAllowed, if that is required."""
        self._enforce(grant, lambda: self._check_start(grant, brief))

    def verified(self, run: str, todos: Sequence[str]) -> Mapping[str, ResultRecord | None] | None:
        """Return the verified records of todos, None for those to be read; None if nothing is checked."""
        if not self._worker_trust.checks:
            return None
        with self._guard:
            return {todo: self._known.get((run, todo)) for todo in todos}

    def check_inputs(
        self, grant: Grant, brief: RunBrief, inputs: TodoInputs, known: Mapping[str, ResultRecord | None]
    ) -> None:
        """Check the outputs and commits of predecessors. Raises NotAllowed, if that is required."""
        self._enforce(grant, lambda: self._check_inputs(grant, brief, inputs, known))

    def check_history(self, grant: Grant, lacking: Callable[[], str]) -> None:
        """Check that the commit at which a todo starts has those of its predecessors in its repository.
        `lacking` asks git, and returns one that it lacks. Raises NotAllowed, if that is required.
        """

        def check() -> None:
            if commit := lacking():
                repo = grant.spec.repo.name
                raise foreign(
                    f"{grant.todo_id} would start in {repo} without the work of a predecessor: {commit:.40}"
                )

        self._enforce(grant, check)

    def _signed_of(
        self, grant: Grant, brief: RunBrief, read: Callable[[Sequence[str]], Mapping[str, str]]
    ) -> Sequence[ResultRecord]:
        """Return the signed results that the run, and those that it retries, have in the todo's repository.
        `read` returns todo → its signed result, of these todos.
        """
        repo, runs, found = (
            grant.spec.repo.name,
            (grant.run_id, *brief.lineage.takes_up),
            list[ResultRecord](),
        )
        trust = self._trust()
        for raw in read([todo for todo, of in brief.repo_of.items() if of == repo]).values():
            try:
                record = self._open(raw, trust, grant.run_id)
            except NotTrusted:
                continue
            if record.repo == repo and record.run in runs:
                found.append(record)
        return found

    def are_signed(
        self,
        grant: Grant,
        brief: RunBrief,
        parts: Collection[tuple[str, str]],
        read: Callable[[Sequence[str]], Mapping[str, str]],
    ) -> bool:
        """Return whether the commits between which todos of the run have worked, as Redis says, are those of
        signed results, where that is required. `read`: as for `deletable_tips`.
        """
        if not self._worker_trust.requires:
            return True
        signed = {(record.base, record.tip) for record in self._signed_of(grant, brief, read)}
        return signed.issuperset(parts)

    def deletable_tips(
        self,
        grant: Grant,
        brief: RunBrief,
        pushed: Collection[str],
        read: Callable[[Sequence[str]], Mapping[str, str]],
    ) -> Collection[str]:
        """Return the commits that a rollback may delete at a remote: of those that were `pushed`, as Redis
        says, the tips of signed results of the run; all of them where signatures are not required.

        `read` returns todo → its signed result, of these todos.
        """
        if not pushed or not self._worker_trust.checks:
            return pushed
        repo = grant.spec.repo.name
        tips = {record.tip for record in self._signed_of(grant, brief, read)}
        if unsigned := sorted(set(pushed) - tips):
            why = f"{unsigned[0][:12]} is recorded as pushed to the remote of {repo}, by no signed result"
            if not self._worker_trust.requires:
                self._worker_trust.warn(grant, why)
                return pushed
            self._report(grant, why)
        return tips.intersection(pushed)

    def seal_cached(self, record: CachedRecord) -> str:
        """Return the signed record of a result for the cache; empty where the key cannot be made."""
        signer = self._key.load_or_log()
        return seal_cached(record, signer) if signer else ""

    def check_cached(
        self, grant: Grant, signed: str, *, key: str, at: float, tree: str, output: str, changes: bytes
    ) -> None:
        """Check a result of the cache, before it is used. Raises NotAllowed, if that is required."""

        def check() -> None:
            record, repo = open_cached(signed, self._trust(), datetime.now(UTC)), grant.spec.repo.name
            self._here().check_origin("signed cached result", record)
            check_cached(record, key=key, repo=repo, at=at, tree=tree, output=output, changes=changes)

        self._enforce(grant, check)

    def _enforce(self, grant: Grant, check: Callable[[], None]) -> None:
        if not self._worker_trust.checks:
            return
        try:
            check()
        except CoordinationError as error:
            if not self._worker_trust.requires:
                self._worker_trust.warn(grant, error.message)
                return
            self._report(grant, error.message)
            if isinstance(error, NotTrusted | Unsafe):
                raise
            raise Unsafe(error.message, error.hint) from error

    def _trust(self) -> TrustFile:
        with self._guard:
            trust = self._worker_trust.read()
            if trust is not self._used:
                self._known.clear()
                self._opened.clear()
                self._used = trust
            return trust

    def _open(self, raw: str, trust: TrustFile, run: str) -> ResultRecord:
        """Return the record of a result that counts for a run."""
        with self._guard:
            record = self._opened.get(raw)
        if record is None:
            record = open_result(raw, trust, datetime.now(UTC))
            self._keep(self._opened, raw, record, ENVELOPES_KEPT, trust)
        here = self._here()
        also = self._ordered_on(run) if record.server != here.server else ""
        here.check_origin(RESULT, record, also=also)
        return record

    def _keep(
        self, kept: OrderedDict[K, ResultRecord], key: K, record: ResultRecord, most: int, trust: TrustFile
    ) -> None:
        with self._guard:
            if trust is not self._used:  # another thread has read a newer one
                return
            kept[key] = record
            while len(kept) > most:
                kept.popitem(last=False)

    def _check_start(self, grant: Grant, brief: RunBrief) -> None:
        self._trust()  # what is known by another trust file is forgotten
        if grant.undo is not None:
            self._check_own_result(grant, grant.undo, brief)
        self._check_tip(grant, brief)

    def _check_tip(self, grant: Grant, brief: RunBrief) -> int:
        """Check the tip at which a todo begins; return the last fence of the repository that it contains."""
        todo, repo = grant.spec.todo, grant.spec.repo.name
        if isinstance(todo.action, InWorker) or todo.workspace is Workspace.IN_PLACE:
            return ANY_FENCE
        carried = brief.lineage.within(repo).tip or None
        if grant.tip is None:
            if carried is not None:
                raise foreign(f"Redis has no tip of {repo}, and the run carries {carried[:12]} over")
            return NO_FENCE
        if is_adoption(grant.tip_result) and grant.tip == carried:
            change_set = brief.change_set or brief.lineage.change_set
            self._check_adoption(grant.spec.repo.name, grant.tip_result, grant.tip, change_set)
            return ANY_FENCE
        record = self._open(grant.tip_result, self._trust(), grant.run_id)
        check_change_set(record, built_on=brief.lineage.builds_on, change_set=brief.change_set)
        return check_tip(
            record, run=grant.run_id, earlier=brief.lineage.runs, repo=repo, tip=grant.tip, carried=carried
        )

    def _check_own_result(self, grant: Grant, undo: Undo, brief: RunBrief) -> None:
        """Check the run and the output of a todo that is to be undone, if it had succeeded. Who completed a
        manual todo is checked with the order.
        """
        todo = grant.todo_id
        if TodoState(undo.was) is not TodoState.SUCCEEDED:
            return
        if todo in brief.by_hand:
            if undo.output:
                raise foreign(f"{todo} is done by a person, and has an output in Redis")
        else:
            record = self._open(undo.result, self._trust(), grant.run_id)
            check_undone(record, run=undo.run, todo=todo, output=undo.output)

    def _check_inputs(
        self, grant: Grant, brief: RunBrief, inputs: TodoInputs, known: Mapping[str, ResultRecord | None]
    ) -> None:
        trust = self._trust()
        handed_over = {handed.todo for handed in inputs.todos}
        before = {todo for todo, repo in grant.spec.predecessors.items() if repo != MILESTONE_REPO}
        if missing := sorted(before - handed_over):
            raise foreign(f"Redis has no result of {missing[0]}, which comes before {grant.todo_id}")
        contained = self._check_tip(grant, brief) if handed_over else ANY_FENCE
        for handed in inputs.todos:
            if not self._needs_record(grant, brief, handed):
                continue
            if is_adoption(signed := inputs.signed.get(handed.todo, "")):
                self._check_adopted(grant, brief, handed, signed)
                continue
            record = known[handed.todo] or self._record(grant.run_id, handed.todo, inputs.signed, trust)
            try:
                check_output(handed, record, brief)
            except NotTrusted:
                with self._guard:
                    self._known.pop((grant.run_id, handed.todo), None)
                raise
            repo = brief.repo_of[handed.todo]
            if record.tip and repo == grant.spec.repo.name and record.fence > contained:
                raise foreign(f"the tip of {repo} in Redis lacks the work of {handed.todo}")

    def _check_adopted(self, grant: Grant, brief: RunBrief, handed: PredecessorOutput, signed: str) -> None:
        """Check a predecessor whose run Redis has lost: a person states that the commit at which its
        repository goes on has its work.
        """
        repo = brief.repo_of[handed.todo]
        carried = brief.lineage.within(repo).tip
        if handed.commit != carried or handed.json or handed.todo in brief.lineage.redone:
            raise foreign(f"{handed.todo} has an adopted result, and {repo} does not go on from it")
        check_adoption(
            signed, self._trust(), datetime.now(UTC), here=self._here(), change_set=brief.change_set,
            repo=repo, tip=carried, todo=handed.todo,
        )  # fmt: skip

    def _needs_record(self, grant: Grant, brief: RunBrief, handed: PredecessorOutput) -> bool:
        """Return whether a worker must have signed this result."""
        empty = not handed.json and not handed.commit
        if handed.todo in brief.by_hand and not empty:
            raise foreign(f"{handed.todo} is done by a person, and has a commit or an output in Redis")
        # a todo can be undone though its predecessors have not succeeded in this run
        return handed.todo not in brief.by_hand and not (grant.undo and empty)

    def _record(self, run: str, todo: str, signed: Mapping[str, str], trust: TrustFile) -> ResultRecord:
        try:
            record = self._open(signed.get(todo, ""), trust, run)
        except NotTrusted as error:
            raise NotTrusted(error.cause, f"the result of {todo}: {error.message}", error.hint) from error
        self._keep(self._known, (run, todo), record, RECORDS_KEPT, trust)
        return record
