"""Make the workspace that a todo asks for: the run's worktree, or the repository's path itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from coordination import models
from coordination.sandbox import Binds
from workers.process.trouble import GitInterrupted, Trouble
from workers.workspace.base import Workspace
from workers.workspace.base_commit import Carried
from workers.workspace.commit import CommitStyle
from workers.workspace.git_sessions import GitSessions
from workers.workspace.git_worktree import Fetch
from workers.workspace.lock import LockRequest, WorkspaceLock
from workers.workspace.repository import common_dir_of
from workers.workspace.worktree import Worktree


class InPlace(Workspace):
    """One todo at a time: the lock belongs to the path, so runs exclude each other as well."""

    def __init__(self, *, state: Path, path: Path) -> None:
        name = hashlib.sha256(str(path.resolve()).encode(errors="surrogateescape")).hexdigest()[:16]
        own = path.absolute()
        super().__init__(own, WorkspaceLock(state.absolute() / "in-place" / name, own))

    @property
    def is_intact(self) -> bool:
        """Return whether the path is a folder still."""
        return self.path.is_dir()

    @property
    def binds(self) -> Binds:
        """Return the folder with a read-only `.git`: a `commondir` there would redirect git outside of the
        sandbox.
        """
        git_dir = self.path / ".git"
        return Binds(writable=(self.path,), pinned=(git_dir,) if git_dir.exists() else ())

    def enter(self, lock_request: LockRequest, tip: str | None, patience: timedelta) -> str:
        """Enter alone; return an empty text, for there is not a commit to begin at."""
        if not self.path.is_dir():
            hint = "restore it, or correct the path in ecosystem.yaml"
            raise GitInterrupted(Trouble.MISSING, f"there is no folder {self.path}", hint)
        self._workspace_lock.enter(lock_request, patience)
        return ""

    def commit(self, todo: str, task: str, source: str = "") -> str:
        """Commit nothing; still, an older attempt may not go on. Raises Superseded."""
        self._workspace_lock.check()
        return ""


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
    confined: bool = False,
    sessions: GitSessions | None = None,
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
        confined=confined,
        sessions=sessions,
    )
