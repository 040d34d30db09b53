"""The actions of an attempt on its todo: run it, check the repository, or compensate it.

`attempt.py` does for all actions what they share: the workspace, the command under its guard, timeout, log,
lease and fence.
Running a todo executes its action, and commits its changes.

A quality check judges the repository, and changes nothing in it. Files that it leaves are removed, and
commits that it makes do not count: its todo settles with the commit at which it began. A green result is kept
for the trees of the repository and of those that it needs; any other result is made anew. The result of a
check that is not green goes to the checkpoint of its todo.

Compensating a todo executes its compensation, and with the last todo of a repository removes the run's
worktree and branch:

    workspace   compensate   effect
    worktree    given        the command, at the run's tip; nothing of it is committed
    worktree    none         nothing: the branch goes with the last todo of the repository
    in place    given        the command, there
    in place    none         refused: nothing undoes it
    manual      none         nothing: a person did it, and the step passes it over without a worker

An attempt may follow one that was killed in the middle. It recognises the effects of the command by its
idempotency key, and the other effects by themselves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from coordination import models
from coordination.errors import PlanRefused
from coordination.files import open_private
from coordination.models import ManualAction, NoopAction, QaAction, RevertAction
from coordination.runs.change_sets.records import CheckResult, CheckVerdict, read_result
from coordination.runs.records import RunBrief
from coordination.runs.replies import Grant, Undo
from coordination.sandbox import Bounds
from workers.attempt.checks import Report, ReportUnreadable, Stamp, is_known, judge, read_report, stamps
from workers.attempt.commands import CompensatedTodo
from workers.attempt.environment import AttemptEnvironment
from workers.attempt.output import Log, read_output
from workers.attempt.result_cache import AttemptCache
from workers.cleanup.rollback import RollbackCleanup
from workers.outcome import AttemptOutcome, OutcomeKind, describe_exit
from workers.process.child import Exit
from workers.process.trouble import describe_os_error
from workers.workspace.base import Workspace
from workers.workspace.commit import CommitStyle


@dataclass(frozen=True, kw_only=True)
class AttemptAction:
    """The steps in which the actions differ. The defaults do nothing."""

    grant: Grant

    @property
    def key(self) -> str:
        """Return COORD_IDEMPOTENCY_KEY: equal for all attempts, so that effects outside are recognised."""
        raise NotImplementedError

    def needs_command(self) -> bool:
        """Return whether a command is to run in a workspace. Raises where the action cannot be done
        at all.
        """
        return True

    def cached(self, workspace: Workspace, start: str) -> AttemptOutcome | None:
        """Return an outcome that makes the command unnecessary; asked before `prepare` and after it."""
        return None

    def compensated(self, folder: Path) -> CompensatedTodo | None:
        """Write files about the todo to be undone into this folder, and return them for the command.

        Raises WorkspaceUnusable.
        """
        return None

    def before_command(self, workspace: Workspace) -> None:
        """Look at the workspace before the command runs."""

    def outcome_of(
        self, outcome: AttemptOutcome | None, ended: Exit, workspace: Workspace, start: str
    ) -> AttemptOutcome | None:
        """Return the outcome of the command; None: keep its result. `outcome`: of one that failed."""
        return outcome

    def explain(self, why: str) -> str:
        """Add to a failure of the command what may have led to it."""
        return why

    def keep_result(self, workspace: Workspace, output: Path, start: str) -> AttemptOutcome:
        """Keep the result of a command that succeeded, in the workspace. `output`: the file of COORD_OUTPUT.

        Raises where it cannot be kept.
        """
        raise NotImplementedError

    def after_settle(self) -> None:
        """React to a success that was accepted."""

    def after_leave(self) -> None:
        """Finish when no attempt is in the workspace any more. Raises where that cannot be done."""

    def close(self) -> None:
        """Release the resources of the attempt, whatever its outcome is."""


@dataclass(frozen=True, kw_only=True)
class RunTodo(AttemptAction):
    output_limit_bytes: int
    log: Log
    cache: AttemptCache | None = None
    """Only if the todo has a `cache` that can be used."""

    @property
    def key(self) -> str:
        return f"{self.grant.run_id}/{self.grant.todo_id}"

    def needs_command(self) -> bool:
        todo = self.grant.spec.todo
        if todo.workspace is models.Workspace.IN_PLACE and getattr(todo.action, "read_only", False):
            raise PlanRefused(
                f"{todo.id} is read_only, which cannot be checked in place",
                "give it workspace: worktree, or remove read_only from its action",
            )
        return True

    def cached(self, workspace: Workspace, start: str) -> AttemptOutcome | None:
        return self.cache.look(workspace, start) if self.cache else None

    def keep_result(self, workspace: Workspace, output: Path, start: str) -> AttemptOutcome:
        written = read_output(output, self.output_limit_bytes, self.log.masked_json)
        tip = workspace.commit(self.grant.todo_id, self.log.masked(self.grant.spec.todo.task))
        # A stop from here on comes too late: the todo is done, and the fence decides whether that counts.
        figures = "" if tip == (self.grant.tip or start) else workspace.figures(tip)
        done = AttemptOutcome(
            kind=OutcomeKind.SUCCEEDED, exit_code=0, output=written, tip=tip, began=start, figures=figures
        )
        if self.cache:
            self.cache.note(done, workspace)
        return done

    def after_settle(self) -> None:
        if self.cache:
            self.cache.keep()

    def close(self) -> None:
        if self.cache:
            self.cache.close()


@dataclass(frozen=True, kw_only=True)
class Compensate(AttemptAction):
    undo: Undo
    removal: RollbackCleanup
    withdraw: Callable[[], None]
    """Deletes what was published."""
    set_back: Callable[[], str]
    """Sets the branch of the change set back; returns why it stays."""
    say: Callable[[str], None]

    @property
    def key(self) -> str:
        return f"{self.undo.run}/{self.grant.todo_id}/compensate"

    def needs_command(self) -> bool:
        self.say(f"compensating it; it had ended as: {self.undo.was}")
        self.removal.refuse_lost_repository()
        self._refuse_without_way()
        needs_command = self.grant.spec.todo.compensate is not None
        # Its worktree is then set back to the run's tip.
        if self.undo.last or (needs_command and not self._in_place):
            self.removal.refuse_losses(of_all=self.undo.last)
        return needs_command

    def compensated(self, folder: Path) -> CompensatedTodo:
        file = folder / "todo-output.json"
        with describe_os_error(folder), open_private(file) as new:
            new.write(self.undo.output or "null")
        return CompensatedTodo(state=self.undo.was, output=file)

    def explain(self, why: str) -> str:
        if self.undo.output:
            return why
        return f"{why}; {self.grant.todo_id} ended as {self.undo.was} without output"

    def keep_result(self, workspace: Workspace, output: Path, start: str) -> AttemptOutcome:
        return AttemptOutcome(kind=OutcomeKind.SUCCEEDED, exit_code=0)

    def after_leave(self) -> None:
        if not self.undo.last:
            return
        self.withdraw()
        self.removal.refuse_losses(of_all=True)
        if stays := self.set_back():
            self.say(stays)
        for line in self.removal.remove():
            self.say(line)

    @property
    def _in_place(self) -> bool:
        return self.grant.spec.todo.workspace is models.Workspace.IN_PLACE

    def _refuse_without_way(self) -> None:
        todo, run = self.grant.spec.todo, self.grant.run_id
        if todo.compensate is not None or isinstance(todo.action, NoopAction | ManualAction):
            return
        if isinstance(todo.action, RevertAction):
            raise PlanRefused(
                "it cannot be undone: it has reverted a landing", "bring it back: coord land PLAN"
            )
        if not self._in_place:
            return
        raise PlanRefused(
            f"it cannot be undone: it worked in {self.removal.checkout} itself and has no `compensate`",
            f'undo it by hand, then: coord rollback {run} --accept {todo.id} --reason "…"',
        )


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

    def needs_command(self) -> bool:
        return True

    def cached(self, workspace: Workspace, start: str) -> AttemptOutcome | None:
        found = super().cached(workspace, start)
        if found is None or found.kind is not OutcomeKind.SUCCEEDED:
            return found
        return replace(found, check=self._check_field(CheckVerdict.GREEN, start))

    def _check_field(self, verdict: CheckVerdict, commit: str) -> str:
        return f"{self.action.check or self.grant.todo_id} {verdict} {commit}"

    def before_command(self, workspace: Workspace) -> None:
        if self.action.report:
            self._before.update(stamps(workspace.path, self.action.report))

    def outcome_of(
        self, outcome: AttemptOutcome | None, ended: Exit, workspace: Workspace, start: str
    ) -> AttemptOutcome | None:
        """Return the outcome by the verdict. `outcome`: of a command that failed."""
        if outcome is not None and outcome.kind is not OutcomeKind.FAILED:
            return outcome
        result = self._result(ended, workspace, start)
        counts = f"{result.passed:,} of {result.total:,} tests passed" if result.total is not None else ""
        self.log.line(": ".join(filter(None, (f"check: {result.verdict}", result.why or counts))))
        output = json.dumps(self.log.masked_json(json.loads(result.written())), separators=(",", ":"))
        green = result.verdict is CheckVerdict.GREEN
        if green or self._is_allowed(result):
            if workspace.discard_changes():
                self.log.line("check: it has left changes, which are not kept: a check changes nothing")
            done = AttemptOutcome(
                kind=OutcomeKind.SUCCEEDED, exit_code=ended.exit_code, output=output, tip=start, began=start,
                check=self._check_field(result.verdict, start),
            )  # fmt: skip
            if green and self.cache:
                self.cache.note(done, workspace)
            return done
        return AttemptOutcome(
            kind=OutcomeKind.FAILED if result.verdict is CheckVerdict.RED else OutcomeKind.REFUSED,
            error=f"{result.verdict}: {result.why}",
            exit_code=ended.exit_code,
            failure=outcome.failure if outcome else None,
            output=output,
            check=self._check_field(result.verdict, start),
        )

    def _result(self, ended: Exit, workspace: Workspace, start: str) -> CheckResult:
        how = describe_exit(ended, self.grant.spec.timeout)
        context = self.context()
        result = judge(self.action, ended, how, self._report(workspace), start)
        before = next(
            (one["output"] for one in context.get("predecessors", ()) if one["todo"] == self.action.before),
            None,
        )
        needed = self.action.needs
        needs = {
            repo: commit
            for repo, commit in context.get("commits", {}).items()
            if repo != self.grant.spec.repo.name and (needed is None or repo in needed)
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
        """Return whether a red check is accepted: with an earlier result, only if it has no new failures."""
        red = result.verdict is CheckVerdict.RED and self.action.allow_red
        return red and (self.action.before is None or result.known)


def action_of(
    grant: Grant, env: AttemptEnvironment, log: Log, bounds: Callable[[], Bounds | None] = lambda: None
) -> AttemptAction:
    """Return the action of an attempt, which writes into the todo's log; `bounds` returns its sandbox."""
    if grant.undo is None:
        cache = _attempt_cache(grant, env, log.line, bounds)
        limit = env.output_limit_bytes
        if isinstance(grant.spec.todo.action, QaAction):
            return RunCheck(grant=grant, output_limit_bytes=limit, log=log, cache=cache, context=env.context)
        return RunTodo(grant=grant, output_limit_bytes=limit, log=log, cache=cache)
    repo = grant.spec.repo.name
    removal = RollbackCleanup(
        state=env.state,
        repo=repo,
        checkout=env.checkout,
        run_id=grant.run_id,
        tip=grant.tip,
        had_ended=grant.undo.had_ended,
        carried=env.carried(repo),
    )
    return Compensate(
        grant=grant,
        undo=grant.undo,
        removal=removal,
        withdraw=env.withdraw,
        set_back=env.set_back,
        say=log.line,
    )


def style_of(grant: Grant, brief: RunBrief) -> CommitStyle:
    return CommitStyle(
        plan=brief.plan_id,
        message=brief.commit_message,
        hooks=brief.commit_hooks == "run",
        read_only=getattr(grant.spec.todo.action, "read_only", False),
    )


def _attempt_cache(
    grant: Grant, env: AttemptEnvironment, say: Callable[[str], None], bounds: Callable[[], Bounds | None]
) -> AttemptCache | None:
    cache = grant.spec.todo.cache
    if cache is None:
        return None
    if env.results is None:
        say("cache: not used by this worker (cache_todos is off, or it is restricted); the todo runs")
        return None
    return AttemptCache(
        grant,
        cache,
        env.results,
        context=env.context,
        agent_command=env.brief.agent_command,
        no_cache=env.brief.no_cache,
        state=env.state,
        bounds=bounds,
        say=say,
    )
