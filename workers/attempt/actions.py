"""The two actions of an attempt: run a todo, or compensate it.

`attempt.py` does the same for both: the workspace, the command under its guard, timeout, log, lease and
fence. Running a todo executes its action, and commits its changes. Compensating it executes its compensation,
and with the last todo of a repository removes the run's worktree and branch.

    workspace   compensate   effect
    worktree    given        the command, at the run's tip; nothing of it is committed
    worktree    none         nothing: the branch goes with the last todo of the repository
    in place    given        the command, there
    in place    none         refused: nothing undoes it
    manual      none         nothing: a person did it (the step passes it over, and no worker gets it)

An attempt may follow one that was killed in the middle. It recognises the command by its idempotency key, and
the other effects by themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coordination import models
from coordination.errors import PlanRefused
from coordination.files import open_private
from coordination.models import ManualAction, NoopAction, RevertAction
from coordination.runs.replies import Grant, Undo
from workers.attempt.context import read_output
from workers.attempt.logs import Log
from workers.cleanup.rollback_cleanup import RollbackCleanup
from workers.executors.job import Undone
from workers.outcome import AttemptOutcome, OutcomeKind
from workers.process.child import Exit
from workers.process.trouble import describe_os_error
from workers.result_cache import Recall
from workers.workspace.base import Workspace


@dataclass(frozen=True, kw_only=True)
class AttemptAction:
    """The steps in which both actions differ; a default stands where only one of them has anything to do."""

    grant: Grant

    @property
    def key(self) -> str:
        """Return COORD_IDEMPOTENCY_KEY: equal for all attempts, so that effects outside are recognised."""
        raise NotImplementedError

    def has_command(self) -> bool:
        """Return whether a command is to run in a workspace. Raises where the action cannot be done
        at all.
        """
        return True

    def cached(self, workspace: Workspace, since: str) -> AttemptOutcome | None:
        """Return an outcome that makes the command unnecessary; asked before `prepare` and after it."""
        return None

    def undone(self, folder: Path) -> Undone | None:
        """Return what the command is told of the todo that it undoes, in files of this folder.

        Raises WorkspaceUnusable.
        """
        return None

    def begin(self, workspace: Workspace) -> None:
        """Look at the workspace before the command runs."""

    def judged(
        self, outcome: AttemptOutcome | None, ended: Exit, workspace: Workspace, since: str
    ) -> AttemptOutcome | None:
        """Return the outcome of the command; None: keep its result. `outcome`: of one that failed."""
        return outcome

    def explained(self, why: str) -> str:
        """Add to a failure of the command what may have led to it."""
        return why

    def keep(self, workspace: Workspace, output: Path, since: str) -> AttemptOutcome:
        """Keep the result of a command that succeeded, in the workspace. `output`: the file of COORD_OUTPUT.

        Raises where it cannot be kept.
        """
        raise NotImplementedError

    def on_accepted(self) -> None:
        """React to a success that was accepted."""

    def on_released(self) -> None:
        """Finish when no attempt is in the workspace any more. Raises where that cannot be done."""

    def close(self) -> None:
        """Give back what the attempt held, whatever its outcome is."""


@dataclass(frozen=True, kw_only=True)
class RunTodo(AttemptAction):
    output_limit_bytes: int
    log: Log
    recall: Recall | None = None
    """Where the todo has a `cache` that can be used."""

    @property
    def key(self) -> str:
        return f"{self.grant.run_id}/{self.grant.todo_id}"

    def has_command(self) -> bool:
        todo = self.grant.spec.todo
        if todo.workspace is models.Workspace.IN_PLACE and getattr(todo.action, "read_only", False):
            raise PlanRefused(
                f"{todo.id} is read_only, which cannot be checked in place",
                "give it workspace: worktree, or remove read_only from its action",
            )
        return True

    def cached(self, workspace: Workspace, since: str) -> AttemptOutcome | None:
        return self.recall.look(workspace, since) if self.recall else None

    def keep(self, workspace: Workspace, output: Path, since: str) -> AttemptOutcome:
        written = read_output(output, self.output_limit_bytes, self.log.masked_json)
        tip = workspace.commit(self.grant.todo_id, self.log.masked(self.grant.spec.todo.task))
        # A stop from here on comes too late: the todo is done, and the fence decides whether that counts.
        figures = "" if tip == (self.grant.tip or since) else workspace.figures(tip)
        done = AttemptOutcome(
            kind=OutcomeKind.SUCCEEDED, exit_code=0, output=written, tip=tip, since=since, figures=figures
        )
        if self.recall:
            self.recall.note(done, workspace)
        return done

    def on_accepted(self) -> None:
        if self.recall:
            self.recall.keep()

    def close(self) -> None:
        if self.recall:
            self.recall.close()


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

    def has_command(self) -> bool:
        self.say(f"compensating it; it had ended as: {self.undo.was}")
        self.removal.refuse_lost_repository()
        self._refuse_without_way()
        has_command = self.grant.spec.todo.compensate is not None
        if self.undo.last or (
            has_command and not self._in_place
        ):  # its worktree is then set back to the run's tip
            self.removal.refuse_losses(of_all=self.undo.last)
        return has_command

    def undone(self, folder: Path) -> Undone:
        file = folder / "todo-output.json"
        with describe_os_error(folder), open_private(file) as new:
            new.write(self.undo.output or "null")
        return Undone(came_to=self.undo.was, output=file)

    def explained(self, why: str) -> str:
        if self.undo.output:
            return why
        return f"{why}; {self.grant.todo_id} ended as {self.undo.was} without output"

    def keep(self, workspace: Workspace, output: Path, since: str) -> AttemptOutcome:
        return AttemptOutcome(kind=OutcomeKind.SUCCEEDED, exit_code=0)

    def on_released(self) -> None:
        if not self.undo.last:
            return
        self.withdraw()
        self.removal.refuse_losses(of_all=True)
        if stays := self.set_back():
            self.say(stays)
        for line in self.removal.carry_out():
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


FAILPOINTS = (
    (Compensate, "undone", "compensate.begin"),
    (Compensate, "keep", "compensate.end"),
    (Compensate, "on_released", "compensate.remove"),
)
"""Methods at which tests make a worker fail, besides its calls to Redis: before the command of a compensation
starts; after it has succeeded; before worktree and branch are removed.
"""
