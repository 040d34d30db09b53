"""The action of an attempt that runs a quality check: it judges the repository, and changes nothing in it.

Files that the check leaves are removed, and commits that it makes do not count: its todo settles with the
commit at which it began. A green result is kept for the trees of the repository and of those that it needs;
any other result is made anew. The result of a check that is not green goes to the checkpoint of its todo.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from coordination.models import QaAction
from coordination.runs.change_sets.check_results import CheckResult, CheckVerdict, read_result
from workers.attempt.actions import RunTodo
from workers.executors.checks import is_known, judge
from workers.executors.junit import Report, ReportUnreadable, Stamp, read_report, stamps
from workers.outcome import AttemptOutcome, OutcomeKind, describe_exit
from workers.process.child import Exit
from workers.workspace.base import Workspace


@dataclass(frozen=True, kw_only=True)
class RunCheck(RunTodo):
    context: Callable[[], Mapping[str, Any]]
    _before: dict[Path, Stamp] = field(default_factory=dict)
    """Files of the report that were there before the command."""

    @property
    def action(self) -> QaAction:
        action = self.grant.spec.todo.action
        assert isinstance(action, QaAction)
        return action

    def has_command(self) -> bool:
        return True

    def cached(self, workspace: Workspace, since: str) -> AttemptOutcome | None:
        found = super().cached(workspace, since)
        if found is None or found.kind is not OutcomeKind.SUCCEEDED:
            return found
        return replace(found, check=self._told(CheckVerdict.GREEN, since))

    def _told(self, verdict: CheckVerdict, commit: str) -> str:
        return f"{self.action.check or self.grant.todo_id} {verdict} {commit}"

    def begin(self, workspace: Workspace) -> None:
        if self.action.report:
            self._before.update(stamps(workspace.path, self.action.report))

    def judged(
        self, outcome: AttemptOutcome | None, ended: Exit, workspace: Workspace, since: str
    ) -> AttemptOutcome | None:
        """Return the outcome by the verdict. `outcome`: of a command that failed."""
        if outcome is not None and outcome.kind is not OutcomeKind.FAILED:
            return outcome
        result = self._result(ended, workspace, since)
        counts = f"{result.passed:,} of {result.total:,} tests passed" if result.total is not None else ""
        self.log.say(": ".join(filter(None, (f"check: {result.verdict}", result.why or counts))))
        output = json.dumps(self.log.masked_json(json.loads(result.written())), separators=(",", ":"))
        green = result.verdict is CheckVerdict.GREEN
        if green or self._is_allowed(result):
            if workspace.set_back():
                self.log.say("check: it has left changes, which are not kept: a check changes nothing")
            done = AttemptOutcome(
                kind=OutcomeKind.SUCCEEDED, exit_code=ended.exit_code, output=output, tip=since, since=since,
                check=self._told(result.verdict, since),
            )  # fmt: skip
            if green and self.recall:
                self.recall.note(done, workspace)
            return done
        return AttemptOutcome(
            kind=OutcomeKind.FAILED if result.verdict is CheckVerdict.RED else OutcomeKind.REFUSED,
            why=f"{result.verdict}: {result.why}",
            exit_code=ended.exit_code,
            failure=outcome.failure if outcome else None,
            output=output,
            check=self._told(result.verdict, since),
        )

    def _result(self, ended: Exit, workspace: Workspace, since: str) -> CheckResult:
        how = describe_exit(ended, self.grant.spec.timeout)
        told = self.context()
        result = judge(self.action, ended, how, self._report(workspace), since)
        before = next(
            (one["output"] for one in told.get("predecessors", ()) if one["todo"] == self.action.before), None
        )
        wanted = self.action.needs
        needs = {
            repo: commit
            for repo, commit in told.get("commits", {}).items()
            if repo != self.grant.spec.repo.name and (wanted is None or repo in wanted)
        }
        known = before is not None and is_known(result, read_result(before))
        return result.model_copy(update={"known": known, "needs": needs})

    def _report(self, workspace: Workspace) -> Report | ReportUnreadable | None:
        if not self.action.report:
            return None
        try:
            return read_report(workspace.path, self.action.report, self._before)
        except ReportUnreadable as unreadable:
            return unreadable

    def _is_allowed(self, result: CheckResult) -> bool:
        """Return whether a red check does not fail its todo: what failed before may fail still."""
        red = result.verdict is CheckVerdict.RED and self.action.allow_red
        return red and (self.action.before is None or result.known)
