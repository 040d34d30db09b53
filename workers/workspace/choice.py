"""Make the workspace that a todo asks for: the run's worktree, or the repository's path itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from coordination import models
from workers.workspace.base import Workspace
from workers.workspace.base_commit import Carried
from workers.workspace.commit import CommitStyle
from workers.workspace.git_worktree import Fetch
from workers.workspace.in_place import InPlace
from workers.workspace.repository import common_dir_of
from workers.workspace.worktree import Worktree


def workspace_for(
    *,
    state: Path,
    run: str,
    repo: models.Repo,
    checkout: Path,
    wanted: models.Workspace,
    fetch: Fetch | None = None,
    carried: Carried | None = None,
    style: CommitStyle | None = None,
    git_commit: Callable[[Worktree, Sequence[str], str], None] | None = None,
) -> Workspace:
    """Return the workspace. Raises GitRefused where a worktree is wanted and git has none to give."""
    if wanted is models.Workspace.IN_PLACE:
        return InPlace(state=state, path=checkout)
    common_dir = common_dir_of(repo.name, checkout)
    return Worktree(
        state=state,
        run=run,
        repo=repo,
        checkout=checkout,
        common_dir=common_dir,
        fetch=fetch,
        carried=carried,
        style=style,
        git_commit=git_commit,
    )
