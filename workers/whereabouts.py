"""Where the work of a todo's predecessors stands on this host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordination.errors import CoordinationError
from coordination.models import Workspace
from coordination.runs.records import Grant, Handed, RunBrief
from workers.arrivals import Arrivals, Sought
from workers.occupancy import WorkspaceUnusable
from workers.parcels import sentence
from workers.repository import branch_of
from workers.trouble import GitInterrupted


@dataclass(frozen=True, kw_only=True)
class Place:
    path: Path | None = None
    why: str = ""
    """Why there is no path, though there is a commit."""

    @property
    def told(self) -> dict[str, Any]:
        """As COORD_CONTEXT has it."""
        path = None if self.path is None else str(self.path)
        return {"path": path} | ({"why": self.why} if self.why else {})


class PathMissing(CoordinationError):
    """The work of a predecessor is not on this host."""


class Whereabouts:
    """The todo's own worktree for what was done in its own repository; of another one a checkout of exactly the commit, for
    in the run's worktree there other todos are at work, or have left what is in no commit.
    """

    def __init__(self, arrivals: Arrivals, state: Path) -> None:
        self._arrivals = arrivals
        self._state = state

    def of(self, grant: Grant, brief: RunBrief, repo: str, newest: Handed | None) -> Place:
        """Raises PathMissing where the todo needs what cannot be had; WorkspaceUnusable and GitInterrupted for trouble of this host."""
        todo = grant.spec.todo
        worktree = self._state / "worktrees" / grant.run_id / repo
        own = repo == grant.spec.repo.name and todo.workspace is not Workspace.IN_PLACE
        if own and worktree.is_dir():  # it stands by now
            return Place(path=worktree)
        if newest is None or newest.commit is None:
            return Place()
        sought = Sought(
            run=grant.run_id,
            repo=repo,
            branch=branch_of(newest.run),
            commit=newest.commit,
            origin=brief.origins.get(repo),
            runs=brief.carried_from,
        )
        try:
            return Place(path=self._arrivals.folder(sought))
        except (GitInterrupted, WorkspaceUnusable):
            raise
        except CoordinationError as missing:
            why = sentence(missing.message)
            if todo.needs_paths and grant.undo is None:
                raise PathMissing(f"{newest.todo}, whose work is not on this host: {why}") from missing
            return Place(why=why)
