"""A workspace that is the repository's path itself: nothing is made, cleaned or committed there, but one todo at a time."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path

from workers.process.child import Child
from workers.workspace.git import Hold
from workers.workspace.lock import LockRequest, WorkspaceLock, describe_os_error
from workers.workspace.trouble import GitInterrupted, Trouble


class InPlace:
    """The same deeds as `Worktree`. The lock belongs to the path, so runs keep out of each other's way as well."""

    needs_prepare = False
    branch = ""
    begun = ""

    def __init__(self, *, state: Path, path: Path) -> None:
        self.path = path.absolute()
        name = hashlib.sha256(str(path.resolve()).encode(errors="surrogateescape")).hexdigest()[:16]
        self._workspace_lock = WorkspaceLock(state.absolute() / "in-place" / name, self.path)

    @property
    def hold(self) -> Hold:
        return self._workspace_lock.hold

    @property
    def mark(self) -> int:
        """By which the processes of this attempt are known."""
        return self._workspace_lock.mark

    @property
    def environment(self) -> dict[str, str]:
        return {}

    @property
    def bounds(self) -> dict[str, str]:
        """The path may be a folder of a repository."""
        return {}

    @property
    def there(self) -> bool:
        """Whether it is a folder still."""
        return self.path.is_dir()

    def enter(self, lock_request: LockRequest, tip: str | None, patience: timedelta) -> str:
        """Come in alone. There is no commit to stand at: returns an empty text."""
        if not self.path.is_dir():
            hint = "restore it, or correct the path in ecosystem.yaml"
            raise GitInterrupted(Trouble.MISSING, f"there is no folder {self.path}", hint)
        self._workspace_lock.enter(lock_request, patience)
        return ""

    def note(self, child: Child) -> None:
        with describe_os_error(self.path):
            self._workspace_lock.note(child.guard, child.group)

    def make_room(self) -> None:
        """What is in place is its owner's."""

    def mark_prepared(self) -> None:
        """What is in place is as its owner wants it."""

    def commit(self, todo: str, task: str) -> str:
        """Nothing is committed; still, only the last who came in has a say. Raises Superseded."""
        self._workspace_lock.check()
        return ""

    def not_carried(self) -> list[str]:
        """Nothing is left behind: all stays where it is."""
        return []

    def take_back(self, lock_request: LockRequest, tip: str | None) -> None:
        """Nothing was committed."""

    def leave(self) -> None:
        self._workspace_lock.leave()

    def remove(self, patience: timedelta) -> None:
        """The path is its owner's; nothing to remove."""
