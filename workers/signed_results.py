"""Sign the results of this worker's attempts, and check the results on which its todos build.

The key is made at the worker's first start (trust/identity.py), and signs in this process. The rules are in
trust/results.py. The setting `signatures` decides what happens with a result that is not signed
by a trusted worker, or differs from what Redis tells: `off` does not look, `warn` logs it, `require` refuses
the todo, or passes over a cached result, and announces it.

Records that were verified are kept in memory, so that a worker reads and verifies the result of each todo of
a run once, however many todos build on it. They are forgotten when the trust file changes.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from coordination.errors import CoordinationError, NotTrusted, TrustCause, Unsafe
from coordination.models import NoopAction, Workspace
from coordination.runs.inputs import PredecessorOutput, TodoInputs
from coordination.runs.records import Result, RunBrief, TodoState
from coordination.runs.replies import Grant
from coordination.trust.keys import Signer
from coordination.trust.results import (
    CachedRecord,
    ResultRecord,
    check_cached,
    check_own_output,
    check_predecessor,
    check_tip,
    digest,
    open_cached,
    open_result,
    seal_cached,
    seal_result,
    trusting_own,
)
from coordination.trust.trust_file import TrustFile, read_trust

Mode = Literal["off", "warn", "require"]
Report = Callable[[Grant, str], None]
"""Announces that something was refused because of its signature."""

RECORDS_KEPT = 20_000
"""Verified records in memory: 20 MB at most."""
NO_FENCE, ANY_FENCE = -1, 2**63
"""The last fence in a repository without a result of the run; where it does not matter."""

logger = logging.getLogger(__name__)


class CurrentTrust:
    """The trust file as it is now, with the worker's own key."""

    def __init__(self, path: Path, own: Signer, repos: Callable[[], Collection[Path]]) -> None:
        self._path = path
        self._own = own
        self._repos = repos
        self._seen: object = None
        self._trust = TrustFile()

    def read(self) -> tuple[TrustFile, bool]:
        """Return it, and whether it has changed since the last call. Raises Unsafe or UsageError."""
        try:
            status = self._path.stat()
            seen: object = (status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode)
        except OSError:  # without a file, a machine trusts its own worker
            seen = ()
        if seen == self._seen:
            return self._trust, False
        found = read_trust(self._path, self._repos()) if seen else TrustFile()
        self._trust, self._seen = trusting_own(found, self._own), seen
        return self._trust, True


class SignedResults:
    """Signs and checks. Any thread may call it."""

    def __init__(self, *, signer: Signer, mode: Mode, trust: CurrentTrust, report: Report) -> None:
        self._signer = signer
        self._mode = mode
        self._current = trust
        self._report = report
        self._known: OrderedDict[tuple[str, str], ResultRecord] = OrderedDict()
        """Run and todo → the verified record."""
        self._guard = threading.Lock()

    @property
    def public_key(self) -> str:
        return self._signer.public_key

    def seal(self, grant: Grant, result: Result) -> str:
        """Return the signed record of a result, for its settle; empty for one of an undone todo."""
        if grant.undo is not None:
            return ""
        record = ResultRecord(
            run=grant.run_id,
            todo=grant.todo_id,
            attempt=grant.attempt,
            fence=grant.fence,
            repo=grant.spec.repo.name,
            base=result.began,
            tip=result.tip,
            output=digest(result.output) if result.outcome is TodoState.SUCCEEDED else "",
            outcome=result.outcome.value,
        )
        return seal_result(record, self._signer)

    def check_start(self, grant: Grant, brief: RunBrief) -> None:
        """Check where a todo begins, and what it undoes. Raises NotAllowed, if that is required."""
        self._judged(grant, lambda: self._check_start(grant, brief))

    def known(self, run: str, todos: Sequence[str]) -> Mapping[str, ResultRecord | None] | None:
        """Return the verified records of todos, None for those to be read; None if nothing is checked."""
        if self._mode == "off":
            return None
        with self._guard:
            return {todo: self._known.get((run, todo)) for todo in todos}

    def check_inputs(
        self, grant: Grant, brief: RunBrief, inputs: TodoInputs, known: Mapping[str, ResultRecord | None]
    ) -> None:
        """Check the outputs and commits of predecessors. Raises NotAllowed, if that is required."""
        self._judged(grant, lambda: self._check_inputs(grant, brief, inputs, known))

    def seal_cached(self, record: CachedRecord) -> str:
        """Return the signed record of a result for the cache."""
        return seal_cached(record, self._signer)

    def check_cached(
        self, grant: Grant, signed: str, *, key: str, at: float, tree: str, output: str, changes: bytes
    ) -> None:
        """Check a result of the cache, before it is used. Raises NotAllowed, if that is required."""

        def check() -> None:
            record, repo = open_cached(signed, self._trust(), datetime.now(UTC)), grant.spec.repo.name
            check_cached(record, key=key, repo=repo, at=at, tree=tree, output=output, changes=changes)

        self._judged(grant, check)

    def _judged(self, grant: Grant, check: Callable[[], None]) -> None:
        if self._mode == "off":
            return
        try:
            check()
        except CoordinationError as error:
            where = f"{grant.todo_id} of run {grant.run_id}"
            if self._mode == "warn":
                logger.warning("%s is not signed as it should be: %s", where, error.message)
                return
            self._report(grant, error.message)
            if isinstance(error, NotTrusted | Unsafe):
                raise
            raise Unsafe(error.message, error.hint) from error

    def _trust(self) -> TrustFile:
        with self._guard:
            trust, changed = self._current.read()
            if changed:
                self._known.clear()
            return trust

    def _check_start(self, grant: Grant, brief: RunBrief) -> None:
        self._trust()  # what is known by another trust file is forgotten
        if grant.undo is not None:
            self._check_own_output(grant, brief)
        self._contained(grant, brief)

    def _contained(self, grant: Grant, brief: RunBrief) -> int:
        """Check the tip at which a todo begins; return the last fence of the repository that it contains."""
        todo, repo = grant.spec.todo, grant.spec.repo.name
        if isinstance(todo.action, NoopAction) or todo.workspace is Workspace.IN_PLACE:
            return ANY_FENCE
        carried = brief.carried_tips.get(repo)
        if grant.tip is None:
            if carried is not None:
                raise _changed(f"Redis has no tip of {repo}, and the run carries {carried[:12]} over")
            return NO_FENCE
        record = open_result(grant.tip_result, self._trust(), datetime.now(UTC))
        return check_tip(
            record, run=grant.run_id, earlier=brief.carried_from, repo=repo, tip=grant.tip, carried=carried
        )

    def _check_own_output(self, grant: Grant, brief: RunBrief) -> None:
        undo = grant.undo
        if undo is None or undo.was is not TodoState.SUCCEEDED or not undo.output:
            return
        record, runs = open_result(undo.result, self._trust(), datetime.now(UTC)), brief.carried_from
        check_own_output(record, runs=(brief.run_id, *runs), todo=grant.todo_id, output=undo.output)

    def _check_inputs(
        self, grant: Grant, brief: RunBrief, inputs: TodoInputs, known: Mapping[str, ResultRecord | None]
    ) -> None:
        trust, now = self._trust(), datetime.now(UTC)
        contained = self._contained(grant, brief) if inputs.todos else ANY_FENCE
        for handed in inputs.todos:
            if not self._needs_record(grant, brief, handed):
                continue
            record = known[handed.todo] or self._record(grant.run_id, handed.todo, inputs.signed, trust, now)
            repo = brief.repo_of[handed.todo]
            try:
                check_predecessor(
                    record,
                    runs=brief.runs_of(handed.todo),
                    run=handed.run,
                    todo=handed.todo,
                    repo=repo,
                    fence=handed.fence,
                    commit=handed.commit or "",
                    output=handed.json,
                )
            except NotTrusted:
                with self._guard:
                    self._known.pop((grant.run_id, handed.todo), None)
                raise
            if record.tip and repo == grant.spec.repo.name and record.fence > contained:
                raise _changed(f"the tip of {repo} in Redis lacks the work of {handed.todo}")

    def _needs_record(self, grant: Grant, brief: RunBrief, handed: PredecessorOutput) -> bool:
        """Return whether a worker must have signed this result."""
        empty = not handed.json and not handed.commit
        if handed.todo in brief.by_hand and not empty:
            raise _changed(f"{handed.todo} is done by a person, and has a commit or an output in Redis")
        # a todo can be undone though its predecessors have not succeeded in this run
        return handed.todo not in brief.by_hand and not (grant.undo and empty)

    def _record(
        self, run: str, todo: str, signed: Mapping[str, str], trust: TrustFile, now: datetime
    ) -> ResultRecord:
        try:
            record = open_result(signed.get(todo, ""), trust, now)
        except NotTrusted as error:
            raise NotTrusted(error.cause, f"the result of {todo}: {error.message}", error.hint) from error
        with self._guard:
            self._known[run, todo] = record
            while len(self._known) > RECORDS_KEPT:
                self._known.popitem(last=False)
        return record


def _changed(message: str) -> NotTrusted:
    return NotTrusted(TrustCause.FOREIGN, message, "somebody changed it in Redis: coord doctor")
