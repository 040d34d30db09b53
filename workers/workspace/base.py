"""The workspace of a todo as an attempt uses it, and the one that is the repository's folder itself."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path

from coordination.runs.not_committed import NotCommitted
from coordination.sandbox import Binds
from workers.process.child import Child
from workers.process.trouble import GitInterrupted, Trouble, describe_os_error
from workers.workspace.git import Hold
from workers.workspace.lock import LockRequest, WorkspaceLock


class Workspace:
    """One attempt at a time works in `path`. The defaults are for a workspace without commits."""

    start_report = ""
    """A line on where the run begins here, if that was chosen just now."""

    def __init__(self, path: Path, workspace_lock: WorkspaceLock) -> None:
        self.path = path
        self._workspace_lock = workspace_lock

    def enter(self, lock_request: LockRequest, tip: str | None, patience: timedelta) -> str:
        """Enter alone, at `tip` (None: where the run began); return the commit, empty without one.
        Raises WorkspaceBusy, Superseded, WorkspaceUnusable, GitRefused.
        """
        raise NotImplementedError

    def commit(self, todo: str, task: str, source: str = "") -> str:
        """Commit the todo's changes; return the branch's tip, empty without one. Raises Superseded,
        GitRefused.
        """
        raise NotImplementedError

    def leave(self) -> None:
        """Leave; no process of the attempt may be alive. Harmless when not inside."""
        self._workspace_lock.leave()

    @property
    def is_intact(self) -> bool:
        """Return whether the folder is still a workspace."""
        raise NotImplementedError

    @property
    def hold(self) -> Hold:
        """The flock, for the guards of commands."""
        return self._workspace_lock.hold

    @property
    def mark(self) -> int:
        """The mark of this attempt's processes."""
        return self._workspace_lock.mark

    def note(self, child: Child) -> None:
        """Record a command that was started here: call it right after `start`."""
        with describe_os_error(self.path):
            self._workspace_lock.note(child.guard, child.group)

    @property
    def environment(self) -> dict[str, str]:
        """Variables for the todo's own processes."""
        return {}

    @property
    def bounds(self) -> dict[str, str]:
        """Variables that keep git from a repository above the folder. The todo may override them."""
        return {}

    @property
    def binds(self) -> Binds:
        """Folders of the workspace that a sandbox shows to the command."""
        raise NotImplementedError

    @property
    def needs_prepare(self) -> bool:
        return False

    def find_prepared(self) -> bool:
        """Bring the folder to the tree on which `prepare` runs; return whether the run has its files already,
        which are then in the folder.
        """
        return False

    def mark_prepared(self) -> None:
        """Note that `prepare` succeeded."""

    def discard_changes(self) -> bool:
        """Undo the changes of the attempt's command; return whether there were any. In place: never. Raises
        Superseded.
        """
        self._workspace_lock.check()
        return False

    def make_room(self) -> None:
        """Remove the attempt's untracked files: they may have filled the disk, and are made again."""

    def not_committed(self) -> tuple[NotCommitted, ...]:
        """Return the todo's files that its commit does not contain. Call it after `commit`."""
        return ()

    def move_change_set(self, commit: str, before: str | None) -> str:
        """Move the branch of the change set to the attempt's commit, before it leaves; return why the branch
        stays, else empty. Raises Superseded.
        """
        return ""

    def figures(self, commit: str) -> str:
        """Return the figures of the change set at a commit; empty without one."""
        return ""

    def take_back(self, lock_request: LockRequest, tip: str | None) -> None:
        """Set the workspace back to `tip` after a refused attempt. Raises Superseded if another one has
        entered since.
        """


class InPlace(Workspace):
    """One todo at a time: the lock belongs to the path, so runs exclude each other as well."""

    def __init__(self, *, state: Path, path: Path) -> None:
        name = hashlib.sha256(str(path.resolve()).encode(errors="surrogateescape")).hexdigest()[:16]
        own = path.absolute()
        super().__init__(own, WorkspaceLock(state.absolute() / "in-place" / name, own))

    @property
    def is_intact(self) -> bool:
        """Return whether the path is still a folder."""
        return self.path.is_dir()

    @property
    def binds(self) -> Binds:
        """Return the folder with a read-only `.git`: a `commondir` there would redirect git outside of the
        sandbox.
        """
        git_dir = self.path / ".git"
        return Binds(writable=(self.path,), pinned=(git_dir,) if git_dir.exists() else ())

    def enter(self, lock_request: LockRequest, tip: str | None, patience: timedelta) -> str:
        """Enter alone; return an empty text, because there is no commit to begin at."""
        if not self.path.is_dir():
            hint = "restore it, or correct the path in ecosystem.yaml"
            raise GitInterrupted(Trouble.MISSING, f"there is no folder {self.path}", hint)
        self._workspace_lock.enter(lock_request, patience)
        return ""

    def commit(self, todo: str, task: str, source: str = "") -> str:
        """Commit nothing; still, an older attempt may not go on. Raises Superseded."""
        self._workspace_lock.check()
        return ""
