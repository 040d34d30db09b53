"""The workspace of a todo as an attempt uses it, and the one that is the repository's folder itself."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import secrets
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from coordination.errors import CoordinationError, GitRefused
from coordination.files import replace_file
from coordination.runs.not_committed import NotCommitted
from coordination.sandbox import Binds
from workers.process.child import Child
from workers.process.trouble import GitInterrupted, Trouble, describe_os_error
from workers.workspace import drivers
from workers.workspace.confined_folder import Survey, rename_below, repositories_in, survey
from workers.workspace.files import read_regular
from workers.workspace.git import Hold
from workers.workspace.lock import Claimant, WorkspaceLock
from workers.workspace.repository import commit_at

REPOSITORIES_SHOWN = 5
logger = logging.getLogger(__name__)


class Workspace:
    """One attempt at a time works in `path`. The defaults are for a workspace without commits."""

    start_report = ""
    """A line on where the run begins here, if that was chosen just now."""

    def __init__(self, path: Path, workspace_lock: WorkspaceLock) -> None:
        self.path = path
        self._workspace_lock = workspace_lock

    def enter(self, lock_request: Claimant, tip: str | None, patience: timedelta) -> str:
        """Enter alone, at `tip` (None: where the run began); return the commit, empty without one.
        Raises WorkspaceBusy, Superseded, WorkspaceUnusable, GitRefused.
        """
        raise NotImplementedError

    def commit(self, todo: str, task: str, source: str = "", agent: str = "") -> str:
        """Commit the todo's changes; return the branch's tip, empty without one. Raises Superseded,
        GitRefused.
        """
        raise NotImplementedError

    def changed_paths(self) -> list[str] | None:
        """Return the paths that differ from the commit at which the attempt began; None where that is not
        known.
        """
        return None

    def committed_paths(self, tip: str) -> list[str]:
        """Return the paths that any commit of the attempt changes."""
        return []

    def undo(self, paths: Sequence[str]) -> None:
        """Set paths back to the commit at which the attempt began."""

    def keep(self, todo: str, task: str) -> str:
        """Keep the changes of an attempt that pauses, and return their commit; empty without one."""
        return ""

    def restore(self, commit: str) -> bool:
        """Bring kept changes back; return whether they are there."""
        return False

    def forget_kept(self, todo: str) -> None:
        """Forget kept changes."""

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

    def provide_worktree(self) -> None:
        """Make the worktree in which a person corrects the work that a check refuses, if there is none."""

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

    def take_back(self, lock_request: Claimant, tip: str | None) -> None:
        """Set the workspace back to `tip` after a refused attempt. Raises Superseded if another one has
        entered since.
        """


class InPlace(Workspace):
    """One todo at a time: the lock belongs to the path, so runs exclude each other as well.

    A todo in a sandbox sees all of the folder, so it is refused where that holds more than the repository:
    other repositories, the state of coord, the home folder. Repositories that it makes there are disarmed,
    since the git of the worker, or of a person, would execute what their configuration names. So are its
    `.gitattributes` that name other drivers than the last commit, and its `.lfsconfig` (`drivers.py`).
    """

    def __init__(self, *, state: Path, path: Path, confined: bool = False) -> None:
        """`confined`: the todo runs in a sandbox."""
        name = hashlib.sha256(str(path.resolve()).encode(errors="surrogateescape")).hexdigest()[:16]
        own = path.absolute()
        records = state.absolute() / "in-place" / name
        super().__init__(own, WorkspaceLock(records, own))
        self._state = state
        self._confined = confined
        self._was_confined = records / "sandboxed"
        """The mark of a todo in a sandbox that has not left, with the state of `_obeyed` before it."""
        self._is_inside = False

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

    def enter(self, lock_request: Claimant, tip: str | None, patience: timedelta) -> str:
        """Enter alone; return an empty text, because there is no commit to begin at."""
        if not self.path.is_dir():
            hint = "restore it, or correct the path in ecosystem.yaml"
            raise GitInterrupted(Trouble.MISSING, f"there is no folder {self.path}", hint)
        self._workspace_lock.enter(lock_request, patience)
        try:
            with describe_os_error(self.path):
                self._disarm()
                if self._confined:
                    self.refuse_more_than_the_repository()
                    state = json.dumps(self._obeyed(survey(self.path))).encode()
                    replace_file(self._was_confined, state, durable=False)
        except BaseException:
            self._workspace_lock.leave()
            raise
        self._is_inside = True
        return ""

    def leave(self) -> None:
        """Disarm repositories that a todo in a sandbox made, and leave."""
        if self._is_inside:
            self._is_inside = False
            try:
                self._disarm()
            except (CoordinationError, OSError) as error:  # the mark stays: the next attempt tries it again
                logger.warning("%s may have repositories of a todo in a sandbox: %s", self.path, error)
        super().leave()

    def _disarm(self) -> None:
        """Rename what a todo in a sandbox made for git to execute. Raises GitRefused, OSError."""
        if not self._was_confined.exists():
            return
        found, before = survey(self.path), json.loads(self._was_confined.read_text() or "{}")
        changed = (place for place, state in self._obeyed(found).items() if before.get(place) != state)
        for place in (*found.nested, *filter(self._is_armed, changed)):
            logger.warning("%s: %s was made by a todo in a sandbox, and is renamed", self.path, place)
            name = place.rpartition("/")[2]
            rename_below(self.path, place, f"{name}-{secrets.token_hex(4)}-disarmed")
        self._was_confined.unlink()

    def _obeyed(self, found: Survey) -> dict[str, str]:
        """Return the state of the files that git and Git LFS obey, by their place in the folder."""
        contents = ((place, read_regular(self.path, place, drivers.LONGEST)) for place in found.attributes)
        return {place: hashlib.sha256(content or b"").hexdigest() for place, content in contents}

    def _is_armed(self, place: str) -> bool:
        if place.lower() == drivers.LFS_CONFIG:
            return True
        named = drivers.drivers_in(read_regular(self.path, place, drivers.LONGEST) or b"")
        return not named <= drivers.BUILT_IN | drivers.drivers_of(commit_at(self.path, "HEAD"), self.path)

    def refuse_more_than_the_repository(self) -> None:
        """Raise GitRefused if the folder holds what a command in a sandbox must not see."""
        own = self.path.resolve()
        homes = {Path(home).resolve(): "the home folder" for home in (os.environ.get("HOME"),) if home}
        others = {self._state.resolve(): "the state of coord", **homes}
        found = [what for place, what in others.items() if place.is_relative_to(own)]
        found += itertools.islice(repositories_in(self.path), REPOSITORIES_SHOWN)
        if found:
            raise GitRefused(
                f"{self.path} holds more than its repository: {', '.join(found)}; a command in a sandbox "
                "would see it",
                "give a todo workspace: worktree; keep the repository of a service apart; or sandbox: off",
            )

    def commit(self, todo: str, task: str, source: str = "", agent: str = "") -> str:
        """Commit nothing; still, an older attempt may not go on. Raises Superseded."""
        self._workspace_lock.check()
        return ""
