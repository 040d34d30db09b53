"""What an attempt does: run a todo, or compensate it. All else is the same for both: the workspace, the command under its guard, timeout,
log, lease and fence (`attempt.py`).

A todo that runs: its action is carried out, and what it leaves changed is committed. A todo that is undone: its compensation is carried
out, and with the last of a repository the run's worktree and branch go.

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
from typing import Protocol

from coordination import models
from coordination.errors import PlanRefused
from coordination.files import open_private
from coordination.models import ManualAction, NoopAction
from coordination.runs.records import Grant, Undo
from workers.attempt_environment import AttemptEnvironment
from workers.cleanup.rollback_cleanup import RollbackCleanup
from workers.context import read_output
from workers.executors.seam import Undone
from workers.outcome import AttemptOutcome, OutcomeKind
from workers.result_cache import Recall
from workers.workspace.interface import Workspace
from workers.workspace.lock import describe_os_error


class AttemptAction(Protocol):
    @property
    def key(self) -> str:
        """COORD_IDEMPOTENCY_KEY. The same for every attempt: what it does outside can be recognised as done before."""

    def has_command(self) -> bool:
        """Whether there is something to carry out in a workspace. Raises where nothing of the deed can be done."""

    def recalled(self, workspace: Workspace, since: str) -> AttemptOutcome | None:
        """What its command is spared for: asked before `prepare` and after it."""

    def undone(self, folder: Path) -> Undone | None:
        """What its command is told of a todo that it undoes, in files of this folder. Raises WorkspaceUnusable."""

    def explained(self, why: str) -> str:
        """Why its command failed, with what may have led to it."""

    def keep(self, workspace: Workspace, output: Path, since: str) -> AttemptOutcome:
        """Its command succeeded, and the workspace is still ours. `output`: what COORD_OUTPUT named. Raises where it is not."""

    def on_accepted(self) -> None:
        """Its success was accepted."""

    def close(self) -> None:
        """It is over, whatever it came to."""

    def on_released(self) -> None:
        """What is left to do when nobody is in the workspace any more. Raises where it cannot be done."""


@dataclass(frozen=True, kw_only=True)
class RunTodo:
    grant: Grant
    output_limit_bytes: int
    recall: Recall | None = None
    """Where its `cache` can be used."""

    @property
    def key(self) -> str:
        return f"{self.grant.run_id}/{self.grant.todo_id}"

    def has_command(self) -> bool:
        return True

    def recalled(self, workspace: Workspace, since: str) -> AttemptOutcome | None:
        return self.recall.look(workspace, since) if self.recall else None

    def undone(self, folder: Path) -> None:
        return None

    def explained(self, why: str) -> str:
        return why

    def keep(self, workspace: Workspace, output: Path, since: str) -> AttemptOutcome:
        written = read_output(output, self.output_limit_bytes)
        tip = workspace.commit(self.grant.todo_id, self.grant.spec.todo.task)
        # Whoever stops it from here on comes too late: it is done, and the fence decides whether that counts.
        done = AttemptOutcome(word=OutcomeKind.SUCCEEDED, exit_code=0, output=written, tip=tip, since=since)
        if self.recall:
            self.recall.note(done, workspace)
        return done

    def on_accepted(self) -> None:
        if self.recall:
            self.recall.keep()

    def close(self) -> None:
        if self.recall:
            self.recall.close()

    def on_released(self) -> None:
        """Nothing: the next todo of the repository goes on in the workspace."""


@dataclass(frozen=True, kw_only=True)
class Compensate:
    grant: Grant
    undo: Undo
    removal: RollbackCleanup
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
        with describe_os_error(folder), open_private(file) as new:
            new.write(self.undo.output or "null")
        return Undone(came_to=self.undo.was, output=file)

    def explained(self, why: str) -> str:
        if self.undo.output:
            return why
        return f"{why}; {self.grant.todo_id} ended as {self.undo.was} and handed over no output"

    def keep(self, workspace: Workspace, output: Path, since: str) -> AttemptOutcome:
        return AttemptOutcome(word=OutcomeKind.SUCCEEDED, exit_code=0)

    def on_accepted(self) -> None:
        """Nothing is kept of it."""

    def close(self) -> None:
        """Nothing was held."""

    def on_released(self) -> None:
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


def action_of(grant: Grant, here: AttemptEnvironment, say: Callable[[str], None]) -> AttemptAction:
    """`say`: a line for the todo's log."""
    if grant.undo is None:
        return RunTodo(grant=grant, output_limit_bytes=here.output_limit_bytes, recall=_recall(grant, here, say))
    repo = grant.spec.repo.name
    removal = RollbackCleanup(
        state=here.state,
        repo=repo,
        checkout=here.checkout,
        run=grant.run_id,
        tip=grant.tip,
        had_ended=grant.undo.had_ended,
        carried=here.carried(repo),
    )
    return Compensate(grant=grant, undo=grant.undo, removal=removal, withdraw=here.withdraw, say=say)


def _recall(grant: Grant, here: AttemptEnvironment, say: Callable[[str], None]) -> Recall | None:
    cache = grant.spec.todo.cache
    if cache is None:
        return None
    if here.results is None:
        say("cache: not used by this worker (cache_todos is off, or it is restricted); it runs")
        return None
    return Recall(
        grant,
        cache,
        here.results,
        context=here.context,
        agent_command=here.brief.agent_command,
        no_cache=here.brief.no_cache,
        state=here.state,
        say=say,
    )


__all__ = ["AttemptAction", "action_of"]
