"""The repository's path itself as a workspace: nothing is made, cleaned or committed there."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path

from workers.workspace.base import Workspace
from workers.workspace.lock import LockRequest, WorkspaceLock
from workers.workspace.trouble import GitInterrupted, Trouble


class InPlace(Workspace):
    """One todo at a time: the lock belongs to the path, so runs exclude each other as well."""

    def __init__(self, *, state: Path, path: Path) -> None:
        name = hashlib.sha256(str(path.resolve()).encode(errors="surrogateescape")).hexdigest()[:16]
        own = path.absolute()
        super().__init__(own, WorkspaceLock(state.absolute() / "in-place" / name, own))

    @property
    def there(self) -> bool:
        """Return whether the path is a folder still."""
        return self.path.is_dir()

    def enter(self, lock_request: LockRequest, tip: str | None, patience: timedelta) -> str:
        """Enter alone; return an empty text, for there is no commit to begin at."""
        if not self.path.is_dir():
            hint = "restore it, or correct the path in ecosystem.yaml"
            raise GitInterrupted(Trouble.MISSING, f"there is no folder {self.path}", hint)
        self._workspace_lock.enter(lock_request, patience)
        return ""

    def commit(self, todo: str, task: str, source: str = "") -> str:
        """Commit nothing; still, an older attempt may not go on. Raises Superseded."""
        self._workspace_lock.check()
        return ""
