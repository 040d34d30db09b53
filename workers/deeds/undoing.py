"""A todo is undone: its compensation is carried out, and with the last of a repository the run's worktree and branch go.

    workspace   compensate   what is done
    worktree    given        the command, at the run's tip; nothing of it is committed
    worktree    none         nothing: the branch goes with the last todo of the repository
    in place    given        the command, there
    in place    none         refused: nothing undoes it
    manual      none         nothing: a person did it (the step passes it over, and no worker is asked)

Each step finds done what a former attempt did before it was killed: the command by its idempotency key, the rest by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coordination import models
from coordination.errors import PlanRefused
from coordination.models import ManualAction, NoopAction
from coordination.runs.records import Grant, Undo
from coordination.wire.private import open_private
from workers.conclusion import Conclusion, Word
from workers.executors.seam import Undone
from workers.occupancy import words_for
from workers.removal import Removal
from workers.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Undoing:
    grant: Grant
    undo: Undo
    removal: Removal
    withdraw: Callable[[], None]
    """Takes back what was published."""
    say: Callable[[str], None]

    @property
    def key(self) -> str:
        return f"{self.undo.run}/{self.grant.todo_id}/compensate"

    def has_command(self) -> bool:
        self.say(f"undoing it; it had come to: {self.undo.was}")
        self.removal.refuse_lost_repository()
        self._refuse_without_way()
        has_command = self.grant.spec.todo.compensate is not None
        if self.undo.last or (has_command and not self._in_place):  # its worktree is then set back to the run's tip
            self.removal.refuse_losses(of_all=self.undo.last)
        return has_command

    def recalled(self, workspace: Workspace, since: str) -> None:
        return None

    def undone(self, folder: Path) -> Undone:
        file = folder / "todo-output.json"
        with words_for(folder), open_private(file) as new:
            new.write(self.undo.output or "null")
        return Undone(came_to=self.undo.was, output=file)

    def explained(self, why: str) -> str:
        if self.undo.output:
            return why
        return f"{why}; {self.grant.todo_id} ended as {self.undo.was} and handed over no output"

    def keep(self, workspace: Workspace, output: Path, since: str) -> Conclusion:
        return Conclusion(word=Word.SUCCEEDED, exit_code=0)

    def counts(self) -> None:
        """Nothing is kept of it."""

    def close(self) -> None:
        """Nothing was held."""

    def finish(self) -> None:
        if not self.undo.last:
            return
        self.withdraw()
        for words in self.removal.carry_out():
            self.say(words)

    @property
    def _in_place(self) -> bool:
        return self.grant.spec.todo.workspace is models.Workspace.IN_PLACE

    def _refuse_without_way(self) -> None:
        todo, run = self.grant.spec.todo, self.grant.run_id
        if todo.compensate is not None or isinstance(todo.action, NoopAction | ManualAction):
            return
        if not self._in_place:
            return
        raise PlanRefused(
            f"nothing undoes it: it worked in {self.removal.checkout} itself, and it has no `compensate`",
            f'undo it by hand, then: coord rollback {run} --accept {todo.id} --reason "…"',
        )
