"""What an executor is given, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coordination import models


@dataclass(frozen=True, kw_only=True)
class Undone:
    """What a compensation is told of the todo that it undoes."""

    came_to: str
    """COORD_COMPENSATES: the todo's state before."""
    output: Path
    """COORD_TODO_OUTPUT: the JSON that the todo handed over, `null` if it never did."""

    @property
    def environment(self) -> dict[str, str]:
        return {"COORD_COMPENSATES": self.came_to, "COORD_TODO_OUTPUT": str(self.output)}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One attempt at a todo, ready to begin: the folder stands, the files are named."""

    todo: models.Todo
    repo: models.Repo
    cwd: Path
    env: Mapping[str, str]
    """All of the command's environment, COORD_* included."""
    context: Path
    """COORD_CONTEXT: what the predecessors handed over."""
    output: Path
    """COORD_OUTPUT: where to write JSON for the dependents."""
    checkpoint: Path | None = None
    """COORD_CHECKPOINT, if an attempt before this one has written something there."""
    agent_command: models.Command | None = None
    """The submitter's; it travels with the run."""
    undone: Undone | None = None
    """Given where the todo is not to be done but undone."""

    @property
    def action(self) -> models.Action | None:
        """None means an agent, which is told the task."""
        return self.todo.compensate if self.undone else self.todo.action


@dataclass(frozen=True, kw_only=True)
class Command:
    argv: tuple[str, ...]
    stdin: bytes = b""


def argv_of(command: models.Command) -> tuple[str, ...]:
    """A string runs in a shell, a list without one."""
    return ("sh", "-c", command) if isinstance(command, str) else tuple(command)
