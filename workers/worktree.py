"""A run's worktree of one repository: made once, clean at the recorded tip for each attempt, removed with the run.

    <state>/worktrees/<run>/<repo>/     the worktree, on branch coord/<run>
    <state>/workspaces/<run>/<repo>/    lock, occupant.json, base, mended, prepared, exclude

States::

    absent ──enter──► clean at the tip ──todo──► changed ──commit──► clean at the new tip ──leave──► …
      ▲                    ▲                        └──failure──leave──► changed ──enter─┐
      │                    └─────────────────────────────────────────────────────────────┘
      └──remove, or damaged by hand (made anew at the next enter)

Invariants

1. The checkout's files, index and HEAD are only ever read. Of its `.git`, objects, the branch `coord/<run>`, the worktree's
   entry and a lock file of ours are written.
2. An attempt begins at the tip that Redis recorded, whatever stands on the branch: a commit whose settle was lost was
   never there, and the todo does it again.
3. Nobody but the occupant (`occupancy.py`) writes here; entries of worktrees are made and removed under one lock per
   repository, which all processes on the machine share.
4. What `prepare` left behind untracked is neither cleaned away nor committed.
5. What an attempt committed itself stands on the branch only if it succeeded; else its files stay changed, to be looked at.
   So what is on the branch of a run that has ended counted, or was put there by hand (`beginning.py`).

What happens on each failure

* Killed in the middle of git: git itself goes on and holds the flock until it ends; lock files of a git that was killed
  with its todo are removed, since nobody else may be at work here.
* A merge, rebase or bisect in progress, HEAD elsewhere, the branch deleted: set back.
* The folder or its entry deleted, the index broken: made anew (and prepared anew).
* The tip is not in the checkout, for it was made on another host: brought here by `fetch`, else refused with the reason.
* The branch checked out somewhere else: refused, for moving it would make that checkout look changed.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cached_property
from pathlib import Path

from coordination.errors import CoordinationError, GitRefused, UsageError
from coordination.models import Repo
from workers.beginning import Carried, Earlier, Ground, Unmergeable, begin
from workers.child import Child
from workers.commit import Stand, commit, message
from workers.git import ask, git
from workers.occupancy import Occupancy, Superseded, Visitor, words_for
from workers.prepared import Prepared
from workers.repository import branch_of, has_commit, tip, worktrees

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


Fetch = Callable[[str, Path, int], None]
"""Brings a commit into a checkout's objects, on the run's branch; the git that does it holds the descriptor. Raises a
CoordinationError that says why it cannot.
"""


logger = logging.getLogger(__name__)


class Worktree:
    def __init__(
        self,
        *,
        state: Path,
        run: str,
        repo: Repo,
        checkout: Path,
        common_dir: Path | None = None,
        fetch: Fetch | None = None,
        carried: Carried | None = None,
    ) -> None:
        for name in (run, repo.name):
            if name in (".", "..") or "/" in name:
                raise UsageError(f"{name!r} cannot be the name of a folder", "name the repository otherwise")
        self.path = state.absolute() / "worktrees" / run / repo.name
        self.branch = branch_of(run)
        self._run = run
        self._repo = repo
        self._checkout = checkout.absolute()
        self._fetch = fetch
        self._carried = carried
        self._state = state.absolute()
        self._records = self._records_of(run)
        self._occupancy = Occupancy(self._records, self.path)
        self._prepared = Prepared(self._records, self._checkout)
        self._visitor: Visitor | None = None
        self._since = self._stands = ""
        self.begun = ""
        """Words on where the run began here, if that was decided just now."""
        self._git_dir = Path()
        self._known_common_dir = common_dir
        self._may_have_entry = True

    @property
    def hold(self) -> int:
        """The flock, for the guard of whatever runs here."""
        return self._occupancy.hold

    def enter(self, visitor: Visitor, tip: str | None, patience: timedelta) -> str:
        """Come in alone, with everything clean at `tip` (None: where the run began); returns that commit.

        Raises WorkspaceBusy, Superseded, WorkspaceUnusable or GitRefused.
        """
        return self._enter(visitor, tip, patience)

    def take_back(self, visitor: Visitor, tip: str | None) -> None:
        """What this visitor committed counts for nothing: stand at `tip` again. Raises Superseded if others came after it."""
        self._enter(visitor, tip, timedelta(0), again=True)
        self.leave()

    def _enter(self, visitor: Visitor, tip: str | None, patience: timedelta, *, again: bool = False) -> str:
        first = self._occupancy.enter(visitor, patience, again=again)
        try:
            with words_for(self.path):
                self._since = self._stands = self._start(tip)
                if first:
                    self._refuse_after_newer(visitor)
                self._stand_at(self._since)
        except Unmergeable as refused:
            self._occupancy.leave(began=refused.start, stood=refused.start)
            raise
        except BaseException:
            self._occupancy.leave()
            raise
        self._visitor = visitor
        return self._since

    def _refuse_after_newer(self, visitor: Visitor) -> None:
        # The records go with the worktree when the run has succeeded; what was committed still tells of newer attempts.
        form = "--format=%(trailers:key=Coord-Fence,valueonly)"
        told = ask("log", form, f"{self._since}..refs/heads/{self.branch}", cwd=self._checkout)
        newest = max((int(word) for word in told.stdout.split() if word.isdecimal()), default=0)
        if newest > visitor.fence:
            message = f"attempt {newest} has committed on {self.branch}, and this is the older attempt {visitor.fence}"
            raise Superseded(message, "nothing to do: the newer attempt counts")

    def note(self, child: Child) -> None:
        """Record a command that was started here: call it right after `start`."""
        with words_for(self._records):
            self._occupancy.note(child.guard, child.group)

    @property
    def changed(self) -> bool:
        """Whether something in it is in no commit."""
        return bool(ask("status", "--porcelain", cwd=self.path, settings=self._prepared.settings).stdout)

    @property
    def needs_prepare(self) -> bool:
        return self._repo.prepare is not None and not self._prepared.done

    def mark_prepared(self) -> None:
        """`prepare` succeeded: what it left untracked stays out of all commits; what it changed of the files is undone."""
        self._git("reset", "--hard", "--quiet")
        left = self._git("ls-files", "--others", "--exclude-standard", "--directory", "-z").split("\0")
        with words_for(self._records):
            self._prepared.mark(left)

    @property
    def environment(self) -> dict[str, str]:
        """For the todo's own processes."""
        return self._prepared.environment

    def commit(self, todo: str, task: str) -> str:
        """Commit what the todo changed; returns the branch's tip. Raises Superseded or GitRefused."""
        assert self._visitor is not None, "enter first"
        self._occupancy.check()
        with words_for(self.path):
            self._remove_stale_locks()
            stand = Stand(
                path=self.path,
                git_dir=self._git_dir,
                branch=self.branch,
                since=self._since,
                settings=self._prepared.settings,
                hold=self.hold,
            )
            self._stands = commit(stand, message(self._run, todo, task, self._visitor.fence))
        return self._stands

    def leave(self) -> None:
        """Go out; nothing of the attempt may be alive. Harmless when not inside."""
        if self._visitor is not None:
            self._visitor = None
            self._occupancy.leave(began=self._since, stood=self._stood())

    def _stood(self) -> str:
        """Where the branch stands, with nothing on it that did not count; empty if that cannot be told."""
        try:
            if self._stands == self._since and not self._is_as_we_came():
                self._occupancy.check()
                self._take_off()
        except (CoordinationError, OSError) as error:
            logger.warning("%s: what the attempt committed may still be on it: %s", self.branch, error)
            return ""
        return self._stands

    def _is_as_we_came(self) -> bool:
        """By two small files, since this is asked after every attempt; a ref that is kept otherwise is asked of git."""
        ref = f"refs/heads/{self.branch}"
        if (self._git_dir / "HEAD").read_text(errors="replace") != f"ref: {ref}\n":
            return False
        file = self._common_dir / ref
        there = file.read_text() if file.exists() else git("rev-parse", "--verify", ref, cwd=self._checkout)
        return there.strip() == self._since

    def _take_off(self) -> None:
        self._lay_down_what_is_unfinished()
        self._git("reset", "--quiet", self._since)

    def remove(self, patience: timedelta) -> None:
        """The run has ended: take the worktree away; its branch stays."""
        with self._occupancy.emptied(patience), words_for(self.path), self._entries():
            self._discard()
        for folder in (self.path.parent, self._records.parent):
            with suppress(OSError):  # not empty: other repositories of the run are still there
                folder.rmdir()

    def _git(self, *args: str) -> str:
        return git(*args, cwd=self.path, settings=self._prepared.settings, hold=self.hold)

    def _start(self, tip: str | None) -> str:
        """Where an attempt begins. A tip that was only carried over is where an *earlier* run stood."""
        return self._base() if tip is None or (self._carried and tip == self._carried.tip) else tip

    def _base(self) -> str:
        """Where the run began in this repository: the same commit for every attempt, wherever the branch goes."""
        file = self._records / "base"
        if not file.exists():
            found = (
                tip(self._repo.name, self._checkout, self._repo.branch)
                if self._carried is None
                else self._go_on(self._carried)
            )
            new = self._records / "base.new"
            new.write_text(found)
            new.replace(file)
        return file.read_text()

    def _go_on(self, carried: Carried) -> str:
        if carried.tip:
            self._obtain(carried.tip)
        ground = Ground(run=self._run, repo=self._repo.name, checkout=self._checkout, branch=self._repo.branch)
        before = ground.last_here(carried.runs)
        try:
            found = begin(ground, self._earlier(before, carried.tip))
        except Unmergeable as refused:
            raise self._to_be_merged_by_hand(refused) from refused
        if found.mended:
            (self._records / "mended").touch()
        self.begun = found.words
        return found.commit

    def _earlier(self, run: str, tip: str | None) -> Earlier:
        records = self._records_of(run)
        base = records / "base"
        return Earlier(
            run=run,
            tip=tip,
            occupant=Occupancy(records, self.path).read(),
            mended=(records / "mended").exists(),
            base=base.read_text() if base.exists() else "",
        )

    def _to_be_merged_by_hand(self, refused: Unmergeable) -> Unmergeable:
        """Leave a worktree in which that can be done: a retry of this run begins with what is then on its branch."""
        self._stand_at(refused.start)
        (self._records / "mended").touch()
        branch = self._repo.branch
        return Unmergeable(
            refused.start,
            f"{self._repo.name}: {branch} has new commits that do not merge into what was done: {refused.message}",
            f"merge it by hand: git -C {self.path} merge {branch}; when that is committed: coord retry {self._run}",
        )

    def _records_of(self, run: str) -> Path:
        return self._state / "workspaces" / run / self._repo.name

    def _stand_at(self, commit: str) -> None:
        self._refuse_elsewhere()
        try:
            sound = self._is_sound() and self._clean(commit)
        except GitRefused:  # broken in a way that making it anew mends; if not, that says why
            sound = False
        if not sound:
            self._make(commit)

    def _is_sound(self) -> bool:
        """Ours and of this repository. Without `.git` git would look further up, and find whatever the state lies in."""
        if not (self.path / ".git").is_file():
            return False
        answer = ask("rev-parse", "--path-format=absolute", "--git-dir", "--git-common-dir", cwd=self.path)
        if answer.returncode:
            return False
        self._git_dir, common = (Path(line) for line in answer.stdout.splitlines())
        return common.samefile(self._common_dir)

    def _clean(self, commit: str) -> bool:
        self._lay_down_what_is_unfinished()
        self._git("reset", "--hard", "--quiet", commit)  # takes the branch along
        self._git("clean", "-ffdq")  # twice -f: repositories that a todo cloned go as well
        return True

    def _lay_down_what_is_unfinished(self) -> None:
        """What keeps git from a reset, and HEAD from the branch."""
        self._remove_stale_locks()
        for name in UNFINISHED:
            shutil.rmtree(self._git_dir / name, ignore_errors=True)
        if (self._git_dir / "HEAD").read_text(errors="replace") != f"ref: refs/heads/{self.branch}\n":
            self._git("symbolic-ref", "HEAD", f"refs/heads/{self.branch}")

    def _remove_stale_locks(self) -> None:
        for name in UNFINISHED_FILES:
            (self._git_dir / name).unlink(missing_ok=True)
        (self._common_dir / "refs" / "heads" / f"{self.branch}.lock").unlink(missing_ok=True)

    def _make(self, commit: str) -> None:
        self._obtain(commit)  # before what stands there is thrown away
        options = ("--quiet", "--force", "--no-track", "-B", self.branch)
        with self._entries():
            self._discard()
            git("worktree", "add", *options, str(self.path), commit, cwd=self._checkout, hold=self.hold)
        self._may_have_entry = True
        named = (self.path / ".git").read_text(errors="surrogateescape")
        self._git_dir = self.path / named.removeprefix("gitdir: ").removesuffix("\n")

    def _obtain(self, commit: str) -> None:
        if has_commit(self._checkout, commit):
            return
        message = f"{self._repo.name}: commit {commit}, where the run stands, is not in {self._checkout}"
        hint = "fetch or restore it there, or start a new run"
        if self._fetch is None:
            raise GitRefused(message, hint)
        try:
            self._fetch(commit, self._checkout, self.hold)
        except CoordinationError as missing:
            raise GitRefused(f"{message}: {missing.message}", hint) from missing

    def _discard(self) -> None:
        """Folder first, entry second: git refuses a folder that is damaged, and is content with one that is missing."""
        remove_tree(self.path)
        self._prepared.forget()
        if self._may_have_entry:
            ask("worktree", "remove", "--force", "--force", str(self.path), cwd=self._checkout)

    def _refuse_elsewhere(self) -> None:
        self._may_have_entry = self.path.exists()
        for place in self._places_of_branch():
            if place == self.path or (place.exists() and self.path.exists() and place.samefile(self.path)):
                self._may_have_entry = True
                continue
            if place.exists():
                hint = f"switch to another branch there: git -C {place} switch BRANCH"
                raise GitRefused(f"{self._repo.name}: {self.branch} is checked out in {place}", hint)
            with self._entries():  # a state folder that was moved or deleted
                ask("worktree", "remove", "--force", "--force", str(place), cwd=self._checkout)

    def _places_of_branch(self) -> Iterator[Path]:
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
        """The lock under which entries of worktrees are made and removed; short, so it is simply waited for."""
        fd = os.open(self._common_dir / "coord.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def remove_tree(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        pass
    except PermissionError:  # folders without write permission, as in Go's module cache
        for folder, _, _ in os.walk(path):
            Path(folder).chmod(0o700)
        shutil.rmtree(path)
