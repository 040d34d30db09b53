"""The actions of an attempt on its todo: run it, or compensate it. `checks.py` has a third one.

`attempt.py` has the parts that all actions share: the workspace, the command under its guard, timeout, log,
lease and fence. Running a todo executes its action, and commits its changes.

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

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coordination import models
from coordination.backend.steps.run import Undo
from coordination.errors import PlanRefused
from coordination.files import open_private
from coordination.models import ManualAction, NoopAction, RevertAction
from coordination.runs.attempt_store import Grant
from workers.attempt.attempt_cache import AttemptCache
from workers.attempt.output import Log, read_output
from workers.cleanup.rollback import RollbackCleanup
from workers.outcome import AttemptOutcome, OutcomeKind
from workers.process.child import Exit
from workers.process.trouble import describe_os_error
from workers.workspace.base import Workspace


@dataclass(frozen=True, kw_only=True)
class CompensatedTodo:
    """The todo that a compensation undoes."""

    state: str
    """COORD_COMPENSATES: the state in which the todo ended."""
    output: Path
    """COORD_TODO_OUTPUT: a file with the todo's output as JSON, `null` without one."""

    @property
    def environment(self) -> dict[str, str]:
        return {"COORD_COMPENSATES": self.state, "COORD_TODO_OUTPUT": str(self.output)}


@dataclass(frozen=True, kw_only=True)
class AttemptAction:
    """The steps in which the actions differ. The defaults do nothing."""

    grant: Grant

    @property
    def key(self) -> str:
        """Return COORD_IDEMPOTENCY_KEY: equal for all attempts, so that effects outside are recognised."""
        raise NotImplementedError

    def needs_command(self) -> bool:
        """Return whether a command is to run in a workspace. Raises PlanRefused where nothing can execute
        the action.
        """
        return True

    def cached(self, workspace: Workspace, start: str) -> AttemptOutcome | None:
        """Return an outcome that makes the command unnecessary; asked before `prepare` and after it."""
        return None

    def compensated(self, folder: Path) -> CompensatedTodo | None:
        """Write files about the todo to be undone into this folder, and return them for the command. Raises
        WorkspaceUnusable.
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

    def keep_result(self, workspace: Workspace, output: Path, start: str, agent: str = "") -> AttemptOutcome:
        """Keep the result of a command that succeeded, in the workspace. `output`: the file of COORD_OUTPUT;
        `agent`: who made it, with version, model and session. Raises an error where it cannot be kept.
        """
        raise NotImplementedError

    def after_settle(self) -> None:
        """React to a success that was accepted."""

    def after_leave(self) -> None:
        """Finish the action after the attempt has left the workspace. Raises an error where that fails."""

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

    def keep_result(self, workspace: Workspace, output: Path, start: str, agent: str = "") -> AttemptOutcome:
        written = read_output(output, self.output_limit_bytes, self.log.masked_json)
        tip = workspace.commit(self.grant.todo_id, self.log.masked(self.grant.spec.todo.task), agent=agent)
        # A stop from here on comes too late: the todo is done, and the fence decides whether that counts.
        figures = "" if tip == (self.grant.tip or start) else workspace.figures(tip)
        outcome = AttemptOutcome(
            kind=OutcomeKind.SUCCEEDED, exit_code=0, output=written, tip=tip, began=start, figures=figures
        )
        if self.cache:
            self.cache.note(outcome, workspace)
        return outcome

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
    log_line: Callable[[str], None]

    @property
    def key(self) -> str:
        return f"{self.undo.run}/{self.grant.todo_id}/compensate"

    def needs_command(self) -> bool:
        self.log_line(f"compensating it; it had ended as: {self.undo.was}")
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

    def keep_result(self, workspace: Workspace, output: Path, start: str, agent: str = "") -> AttemptOutcome:
        return AttemptOutcome(kind=OutcomeKind.SUCCEEDED, exit_code=0)

    def after_leave(self) -> None:
        if not self.undo.last:
            return
        self.withdraw()
        self.removal.refuse_losses(of_all=True)
        if stays := self.set_back():
            self.log_line(stays)
        for line in self.removal.remove():
            self.log_line(line)

    @property
    def _in_place(self) -> bool:
        return self.grant.spec.todo.workspace is models.Workspace.IN_PLACE

    def _refuse_without_way(self) -> None:
        todo, run = self.grant.spec.todo, self.grant.run_id
        if todo.compensate is not None or isinstance(todo.action, NoopAction | ManualAction):
            return
        if isinstance(todo.action, RevertAction):
            raise PlanRefused(
                "it cannot be undone: it has reverted a landing",
                f"bring it back: coord land {todo.action.change_set}",
            )
        if not self._in_place:
            return
        raise PlanRefused(
            f"it cannot be undone: it worked in {self.removal.checkout} itself and has no `compensate`",
            f'undo it by hand, then: coord rollback {run} --accept {todo.id} --reason "…"',
        )
