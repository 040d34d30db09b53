"""The records of an executor: the job that it gets, and the command that it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coordination import models


@dataclass(frozen=True, kw_only=True)
class Undone:
    """The todo that a compensation undoes."""

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
    """The submitter's command; the run carries it."""
    undone: Undone | None = None
    """Set if the todo is to be undone."""

    @property
    def action(self) -> models.Action | None:
        """Return the action to execute; None: an agent gets the task."""
        return self.todo.compensate if self.undone else self.todo.action


@dataclass(frozen=True, kw_only=True)
class Command:
    argv: tuple[str, ...]
    stdin: bytes = b""
