"""Bring the folder of a worktree to a commit on its branch, make it anew where it is damaged, remove it.

The caller holds the workspace's lock. Untracked files that `prepare` left (a virtual environment, say) are
neither removed nor committed:

    <records>/prepared    `prepare` has succeeded
    <records>/sandboxed   a todo in a sandbox has been here
    <records>/nested/     `.git` of nested repositories while our git works (`confined_folder.py`)
    <records>/kept        work in submodules for which the worktree stays: JSON of NotCommitted
    <records>/exclude     patterns of its files, for git, after those of the user
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path

from coordination.errors import CoordinationError, GitRefused
from coordination.files import expanded, locked, make_private, open_private
from coordination.runs.not_committed import NotCommitted, NotCommittedReason, read, written
from coordination.text import quoted
from workers.process.trouble import GitInterrupted, Trouble, WorkspaceUnusable, describe_os_error
from workers.workspace.confined_folder import Tamed, survey
from workers.workspace.drivers import LFS_CONFIG, others_off
from workers.workspace.files import remove_tree
from workers.workspace.git import HOSTILE_PATIENCE, PATIENCE, Hold, ask, git, git_dir_of
from workers.workspace.lock import WorkspaceLock
from workers.workspace.repository import commit_at, has_commit, worktrees
from workers.workspace.submodules import Submodules

UNFINISHED = ("rebase-merge", "rebase-apply", "sequencer")
UNFINISHED_FILES = (
    "index.lock",
    "HEAD.lock",
    "ORIG_HEAD.lock",
    "BISECT_LOG",
    "BISECT_START",
    "BISECT_NAMES",
    "BISECT_TERMS",
)

Fetch = Callable[[str, Path, Hold], None]
"""Fetches a commit into a checkout's objects, and moves no branch; its git has the hold.

Raises a CoordinationError that says why it cannot.
"""


class GitWorktree:
    def __init__(
        self,
        *,
        path: Path,
        branch: str,
        repo: str,
        checkout: Path,
        common_dir: Path | None,
        fetch: Fetch | None,
        workspace_lock: WorkspaceLock,
        prepared: Prepared,
        submodules: Submodules,
    ) -> None:
        """`branch`: empty for a folder whose HEAD is on no branch."""
        self.path = path
        self.branch = branch
        self.git_dir = Path()
        self._commit = ""
        """The commit to which the folder was brought."""
        self._repo = repo
        self._checkout = checkout
        self._known_common_dir = common_dir
        self._fetch = fetch
        self._workspace_lock = workspace_lock
        self.prepared = prepared
        self.submodules = submodules
        self._may_have_entry = True
        self._tamed: Tamed | None = None

    @property
    def settings(self) -> tuple[str, ...]:
        """Return settings for our git. A repository that was cloned where names differ by more than case says
        so in its configuration; elsewhere git would then leave out the file `readme` beside `README`.
        """
        tells_case = (self.path / ".git").exists() and not (self.path / ".GIT").exists()
        return (*self.prepared.settings, *(("core.ignoreCase=false",) if tells_case else ()))

    def drivers_off(self, git_dir: Path) -> tuple[str, ...]:
        """Return settings without the drivers that a todo in a sandbox has chosen."""
        if not self.prepared.sandboxed:
            return ()
        return others_off(self._commit or commit_at(self.path, "HEAD", git_dir), self.path, git_dir)

    @property
    def patience(self) -> timedelta:
        """Return the limit of one git command in the folder."""
        return HOSTILE_PATIENCE if self.prepared.sandboxed else PATIENCE

    def git(self, *args: str) -> str:
        return git(
            *args,
            cwd=self.path,
            git_dir=self.git_dir,
            settings=(*self.settings, *self.drivers_off(self.git_dir)),
            hold=self._workspace_lock.hold,
            patience=self.patience,
        )

    @contextmanager
    def tamed(self, *, enabled: bool = True) -> Iterator[Tamed | None]:
        """Keep what todos in sandboxes left in the folder from our git within the block; None if there was
        none. Blocks may be nested. Raises GitRefused, OSError.
        """
        if self._tamed is not None or not (enabled and self.prepared.sandboxed and self.path.is_dir()):
            yield self._tamed
            return
        tamed = Tamed(self.path, self.prepared.nested)
        try:
            tamed.begin()
            self._tamed = tamed
            yield tamed
        finally:
            self._tamed = None
            tamed.end()

    @property
    def is_foreign(self) -> bool:
        """Return whether the folder has, or may have, entries that our git should not meet."""
        if self._tamed is not None:
            return bool(self._tamed.special or self._tamed.repositories)
        try:
            found = survey(self.path)
        except GitRefused:
            return True
        return bool(found.special or found.nested)

    def is_at(self, commit: str) -> bool:
        """Return whether HEAD is at the commit, by two small files, as each attempt asks; by git for a packed
        ref.
        """
        if not self.branch:
            return (self.git_dir / "HEAD").read_text(errors="replace") == f"{commit}\n"
        ref = f"refs/heads/{self.branch}"
        if (self.git_dir / "HEAD").read_text(errors="replace") != f"ref: {ref}\n":
            return False
        file = self._common_dir / ref
        head = file.read_text() if file.exists() else git("rev-parse", "--verify", ref, cwd=self._checkout)
        return head.strip() == commit

    @property
    def head(self) -> str:
        """Return the commit of a folder that is on no branch; empty for others."""
        return "" if self.branch else (self.git_dir / "HEAD").read_text().strip()

    def reset_branch(self, commit: str) -> None:
        self._commit = commit
        self._abort_unfinished()
        self.git("reset", "--quiet", commit)

    def move(self, commit: str) -> None:
        """Bring a folder that is on no branch to a commit; its untracked files stay."""
        self._commit = commit
        if not self.is_at(commit):
            self.git("reset", "--hard", "--quiet", commit)
            self.submodules.update(self.path, self.git_dir, self._checkout)

    def check_out(self, commit: str, *, anew: bool = False) -> None:
        """Bring the folder to the commit. `anew`: no file of an earlier todo stays."""
        self._refuse_elsewhere()
        self._commit = commit
        try:
            with self.tamed(enabled=not anew):
                sound = not anew and self._is_sound() and self._clean(commit)
        except GitInterrupted as interrupted:  # making it anew repairs damage and a lock, and takes much room
            if interrupted.trouble not in (Trouble.DAMAGED, Trouble.MISSING, Trouble.LOCKED):
                raise
            sound = False
        except GitRefused:  # making it anew may repair it; if not, its error says why
            sound = False
        if not sound:
            self._make(commit)
        self.submodules.update(self.path, self.git_dir, self._checkout)

    def _is_sound(self) -> bool:
        """Return whether the folder is a worktree of ours, and of this repository."""
        git_dir = git_dir_of(self.path)
        if git_dir is None:
            return False
        self.git_dir = git_dir
        return git_dir.parent.name == "worktrees" and git_dir.parent.parent.samefile(self._common_dir)

    def _clean(self, commit: str) -> bool:
        self._abort_unfinished()
        if self.prepared.sandboxed:
            remove_tree(self.path / LFS_CONFIG)  # of a todo that failed: Git LFS would ask the address in it
        self.git("reset", "--hard", "--quiet", commit)  # takes the branch along
        self.git("clean", "-ffdq")  # twice -f: repositories that a todo cloned go as well
        return True

    def _abort_unfinished(self) -> None:
        """Abort a merge, rebase or bisect: it keeps git from a reset, and HEAD from the branch."""
        self.remove_stale_locks()
        for name in UNFINISHED:
            shutil.rmtree(self.git_dir / name, ignore_errors=True)
        if (
            self.branch
            and (self.git_dir / "HEAD").read_text(errors="replace") != f"ref: refs/heads/{self.branch}\n"
        ):
            self.git("symbolic-ref", "HEAD", f"refs/heads/{self.branch}")

    def remove_stale_locks(self) -> None:
        """Remove lock files of the worktree and of the run's branch: only its attempt writes them, so their
        git was killed. Remove a log of HEAD that git cannot append to.
        """
        for name in UNFINISHED_FILES:
            remove_tree(self.git_dir / name)
        log = self.git_dir / "logs" / "HEAD"
        for place, is_damaged in ((log.parent, log.parent.is_file), (log, log.is_dir)):
            if is_damaged():
                remove_tree(place)
        self._unlock_branch()

    def _unlock_branch(self) -> None:
        if self.branch:
            remove_tree(self._common_dir / "refs" / "heads" / f"{self.branch}.lock")

    def _make(self, commit: str) -> None:
        self.obtain(commit)  # before the reset discards the present state
        on = ("--no-track", "-B", self.branch) if self.branch else ("--detach",)
        options = ("--quiet", "--force", *on)
        with self._entries():
            self._discard()
            self._unlock_branch()
            with describe_os_error(self.path.parent):
                make_private(self.path.parent)
            add, hold = ("worktree", "add", *options), self._workspace_lock.hold
            git(*add, str(self.path), commit, cwd=self._checkout, hold=hold, makes=self.path)
        self._may_have_entry = True
        made = git_dir_of(self.path)
        if made is None:
            raise GitInterrupted(Trouble.DAMAGED, f"{self.path} was changed while git made it")
        self.git_dir = made

    def obtain(self, commit: str, change_set: str = "") -> None:
        """Fetch a commit if it is not there. `change_set`: the one whose commit it is. Raises GitRefused."""
        if has_commit(self._checkout, commit):
            return
        hint = ways_out(self._repo, commit, self._checkout, self.path.parent.name, change_set)
        message = f"{self._repo}: commit {commit}, the tip of the run, is not in {self._checkout}"
        if self._fetch is None:
            raise GitRefused(message, hint)
        try:
            self._fetch(commit, self._checkout, self._workspace_lock.hold)
        except (GitInterrupted, WorkspaceUnusable):
            raise
        except CoordinationError as missing:
            raise GitRefused(f"{message}: {missing.message}", hint) from missing

    def remove(self) -> None:
        with self._entries():
            self._discard()

    def _discard(self) -> None:
        """Remove the folder, then its entry: git refuses a damaged folder, and accepts a missing one."""
        if self.path.parent.is_symlink():  # a todo made this link: its target is not ours
            self.path.parent.unlink()
        remove_tree(self.path)
        self.prepared.forget()
        if self._may_have_entry:
            ask("worktree", "remove", "--force", "--force", str(self.path), cwd=self._checkout)

    def _refuse_elsewhere(self) -> None:
        self._may_have_entry = self.path.exists()
        for place in self._places_of_branch():
            if place == self.path or (place.exists() and self.path.exists() and place.samefile(self.path)):
                self._may_have_entry = True
                continue
            if place.exists():
                hint = f"switch to another branch there: git -C {quoted(place)} switch BRANCH"
                raise GitRefused(f"{self._repo}: {self.branch} is checked out in {place}", hint)
            with self._entries():  # a state folder that was moved or deleted
                ask("worktree", "remove", "--force", "--force", str(place), cwd=self._checkout)

    def _places_of_branch(self) -> Iterator[Path]:
        if not self.branch:
            return
        for place, branch in worktrees(self._checkout):
            if branch == f"refs/heads/{self.branch}":
                yield place

    @cached_property
    def _common_dir(self) -> Path:
        return self._known_common_dir or Path(
            git("rev-parse", "--path-format=absolute", "--git-common-dir", cwd=self._checkout)
        )

    @contextmanager
    def _entries(self) -> Iterator[None]:
        """Hold the lock under which entries of worktrees are made and removed; others hold it for moments."""
        with locked(self._common_dir / "coord.lock"):
            yield


class Prepared:
    """The records of `prepare`, of sandboxes and of kept work in a worktree."""

    def __init__(self, records: Path, checkout: Path) -> None:
        self._succeeded = records / "prepared"
        self._sandboxed = records / "sandboxed"
        self._exclude = records / "exclude"
        self._kept = records / "kept"
        self._checkout = checkout

    @property
    def succeeded(self) -> bool:
        return self._succeeded.exists()

    @property
    def sandboxed(self) -> bool:
        """Return whether a todo in a sandbox has been here: no git looks into repositories that it left."""
        return self._sandboxed.exists()

    def mark_sandboxed(self) -> None:
        self._sandboxed.touch(mode=0o600)

    @property
    def exclude(self) -> Path:
        """Return the file of patterns for files that `prepare` left; it may be missing."""
        return self._exclude

    @property
    def nested(self) -> Path:
        """Return the folder for the `.git` of nested repositories."""
        return self._sandboxed.with_name("nested")

    @property
    def ignored(self) -> frozenset[str]:
        """Return the files and folders that `prepare` left, all of which git ignores now."""
        if not self.succeeded:
            return frozenset()
        return frozenset(self._succeeded.read_text(errors="surrogateescape").split("\0"))

    @property
    def kept(self) -> tuple[NotCommitted, ...]:
        """Return the work for which the worktree stays after a run that succeeded."""
        try:
            return read(self._kept.read_text())
        except FileNotFoundError:
            return ()

    def keep(self, found: Iterable[NotCommitted]) -> None:
        """Note what a todo has left out of its commit. Commits of submodules stay until the worktree goes."""
        commits = (one for one in self.kept if one.reason is NotCommittedReason.SUBMODULE_COMMIT)
        new = {(one.reason, one.paths): one for one in (*commits, *found) if one.reason.keeps_worktree}
        if not new:
            self._kept.unlink(missing_ok=True)
            return
        with open_private(self._kept) as file:
            file.write(written(new.values()))

    def mark(self, files: Sequence[str], ignored: Iterable[str]) -> None:
        """Note that `prepare` has succeeded, and left these files, and these that git ignored already."""
        patterns = [_pattern(name) for name in files if name and "\n" not in name]
        text = "\n".join([*_personal_excludes(self._checkout), *patterns, ""])
        with open_private(self._exclude, errors="surrogateescape") as file:
            file.write(text)
        with open_private(self._succeeded, errors="surrogateescape") as file:
            file.write("\0".join((*files, *ignored)))

    def forget(self) -> None:
        """Forget all of it: the worktree is made anew."""
        for file in (self._succeeded, self._exclude, self._kept, self._sandboxed):
            file.unlink(missing_ok=True)
        remove_tree(self.nested)

    @property
    def settings(self) -> tuple[str, ...]:
        """Return settings for our git."""
        return (f"core.excludesFile={self._exclude}",) if self._exclude.exists() else ()

    @property
    def environment(self) -> dict[str, str]:
        """Return variables with which the todo's own `git add --all` leaves out the files of `prepare`."""
        if not self.settings:
            return {}
        name, _, value = self.settings[0].partition("=")
        return {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": name, "GIT_CONFIG_VALUE_0": value}


def ways_out(repo: str, commit: str, checkout: Path, run: str, change_set: str) -> str:
    """Return the next commands where the commits of a change set, or of a run without one, are lost."""
    if not change_set:
        return f"fetch or restore {commit} in {checkout}, or start a new run"
    return (
        f"if another clone has it: git -C {quoted(checkout)} fetch CLONE {commit}, then: coord retry {run}; "
        f"or take a branch with that work: coord plan adopt {change_set} {repo} BRANCH; or do the work "
        f"again: coord sweep {change_set} --fresh"
    )


def _pattern(name: str) -> str:
    return "/" + re.sub(r"([\\*?\[ ])", r"\\\1", name)


def _personal_excludes(checkout: Path) -> list[str]:
    """Return the user's excludes, to be copied into ours: core.excludesFile names one file only."""
    named = ask("config", "--type=path", "--get", "core.excludesFile", cwd=checkout).stdout.strip()
    config = expanded(os.environ.get("XDG_CONFIG_HOME") or "~/.config")  # git also reads this file
    file = Path(named) if named else config / "git" / "ignore"
    return file.read_text(errors="surrogateescape").splitlines() if file.is_file() else []
