"""The commit at which a run begins in a repository: its first attempt chooses it, the others keep it.

`<state>/workspaces/<run>/<repo>/` contains these files: `base`, that commit; `base-branch`, the commit of the
base branch that it began with, in a run with a change set; `conflict`, the commits of a merge that was
left to a person; and `mended`, where it began with more than the repository's own branch.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from coordination.errors import GitRefused
from coordination.files import below, replace_file
from coordination.git import is_commit
from coordination.models import Repo
from coordination.models.values import RUN_ID
from coordination.text import quoted
from coordination.trailers import FENCES
from workers.workspace.base_commit import (
    Carried,
    Conflict,
    Earlier,
    MergeContext,
    Unmergeable,
    begin,
    keep_left_out,
)
from workers.workspace.change_set import BranchCopy, GitSessions
from workers.workspace.git import git, git_dir_of
from workers.workspace.git_worktree import GitWorktree
from workers.workspace.lock import LockHolder, WorkspaceLock
from workers.workspace.repository import has_commit, tip

BASE = "base"
BASE_BRANCH = "base-branch"


def records_of(state: Path, run: str, repo: str) -> Path:
    return below(state, "workspaces", run, repo)


class RunStart:
    def __init__(
        self,
        *,
        run: str,
        repo: Repo,
        state: Path,
        checkout: Path,
        common_dir: Path | None,
        carried: Carried | None,
        prefix: str,
        folder: GitWorktree,
        workspace_lock: WorkspaceLock,
        sessions: GitSessions | None = None,
    ) -> None:
        self.start_report = ""
        """Lines on where the run begins, if that was chosen just now."""
        self._run = run
        self._repo = repo
        self._state = state
        self._records = records_of(state, run, repo.name)
        self._checkout = checkout
        self._carried = carried
        self._prefix = prefix
        self._folder = folder
        self._workspace_lock = workspace_lock
        self._base_lines: tuple[str, ...] = ()
        self.copy: BranchCopy | None = None
        """The branch of the change set."""
        if carried is not None and carried.branch and common_dir is not None:
            self.copy = BranchCopy(
                checkout=checkout, common_dir=common_dir, branch=carried.branch, sessions=sessions
            )

    @property
    def base(self) -> str:
        """Return the commit of the base branch that the run began with; empty without a change set."""
        file = self._records / BASE_BRANCH
        return file.read_text() if self._carried and self._carried.change_set and file.exists() else ""

    def commit(self, tip: str | None) -> str:
        """Return where an attempt begins. A tip that was carried over belongs to an *earlier* run."""
        for commit in (tip, self._carried and self._carried.tip):
            if commit and not is_commit(commit):
                raise GitRefused(f"{self._repo.name}: {commit!r}, recorded as the run's tip, is not a commit")
        return self.first() if tip is None or (self._carried and tip == self._carried.tip) else tip

    def first(self) -> str:
        """Return where the run began in this repository: the same commit for every attempt, wherever the
        branch goes.
        """
        file = self._records / BASE
        if not file.exists():
            found = (
                tip(self._repo.name, self._checkout, self._repo.branch)
                if self._carried is None
                else self._continue(self._carried)
            )
            replace_file(file, found.encode(), durable=False)
        return file.read_text()

    def _continue(self, carried: Carried) -> str:
        if carried.tip:
            self._folder.obtain(carried.tip, carried.change_set)
        conflict = self._conflict() if carried.change_set else None
        merge_context = MergeContext(
            run_id=self._run,
            repo=self._repo.name,
            checkout=self._checkout,
            branch=self._repo.branch,
            prefix=self._prefix,
            change_set=carried.change_set,
            copy=self.copy,
            base=conflict.base if conflict else self._base_branch(carried),
            published=self._published(carried),
            again=carried.again,
            is_explained=partial(self._is_explained, carried),
            taken_out=carried.taken_out,
        )
        if conflict and conflict.is_resolved_on(merge_context, self._folder.branch):
            (self._records / "mended").touch(mode=0o600)
            by_hand = merge_context.head(self._folder.branch)
            line = f"begins at {self._folder.branch}, where {self._repo.branch} was merged by hand"
            self.start_report = "\n".join((line, *keep_left_out(merge_context, by_hand)))
            return by_hand
        before = merge_context.last_here(carried.runs) if carried.runs else None
        try:
            found = begin(
                merge_context,
                self._earlier(before, carried.tip) if before else Earlier(run_id="", tip=carried.tip),
            )
        except Unmergeable as refused:
            raise self._to_be_merged_by_hand(refused, merge_context.base) from refused
        if found.mended:
            (self._records / "mended").touch(mode=0o600)
        continues = carried.tip or carried.runs or found.mended
        lines = [found.line] if continues else []
        lines += keep_left_out(merge_context, found.commit)
        self.start_report = "\n".join((*self._base_lines, *lines, *self._mended_copy(carried)))
        return found.commit

    def _is_explained(self, carried: Carried, left: str, base: str) -> bool:
        """Return whether work that coord left on the branch of the change set may go, though Redis has no
        tip: it has landed, or is that of attempts that did not count.
        """
        if carried.again:  # a person has ordered it to be done again
            return True
        if carried.has_landed is not None and carried.has_landed(left, base):
            return True
        rows = FENCES.rows(git("log", *FENCES.options, f"{base}..{left}", "--", cwd=self._checkout))
        made = {(row["Run"], row["Fence"]) for row in rows if row["Run"] and row["Fence"]}
        return bool(made) and all(
            run in (self._run, *carried.runs) or fence == self._killed_in(run) for run, fence in made
        )

    def _killed_in(self, run: str) -> str:
        """Return the fence of the last attempt in a run's worktree, if it was killed; else empty."""
        last = self._lock_holder(run) if RUN_ID.fullmatch(run) else None
        return str(last.fence) if last and not last.left else ""

    def _published(self, carried: Carried) -> str:
        """Return the commit of the pull request that the run must build on; empty without one."""
        if not carried.published:
            return ""
        if not is_commit(carried.published) or not has_commit(self._checkout, carried.published):
            seen = carried.published[:40]
            self._base_lines += (
                f"begins without {seen!r}, which its pull request shows: it is not in this clone",
            )
            return ""
        return carried.published

    def _base_branch(self, carried: Carried) -> str:
        """Return the commit of the base branch, and keep it; empty in a run that begins at the local one."""
        if not carried.change_set and carried.base is None:
            return ""
        if carried.base is None:
            commit = tip(self._repo.name, self._checkout, self._repo.branch)
        else:
            found = carried.base()
            commit, self._base_lines = found.commit, found.lines
        replace_file(self._records / BASE_BRANCH, commit.encode(), durable=False)
        return commit

    def _mended_copy(self, carried: Carried) -> list[str]:
        """Bring the branch of the change set to its tip, where the last run could not, and remove it where
        all of its work is done again; return a line where that is not possible.
        """
        if self.copy is None or carried.published:
            return []
        heads = self.copy.read()
        if heads.is_moved or heads.head == (carried.tip or ""):
            return []
        if not carried.tip:
            newest = git("log", *FENCES.options, "--max-count=1", heads.head, cwd=self._checkout)
            is_ours = any(row["Run"] == self._run for row in FENCES.rows(newest))
            return list(filter(None, [self.copy.move("")])) if carried.again and not is_ours else []
        gone = [f"{self.copy.branch} was deleted, and is made again"] if heads.left and not heads.head else []
        return [*gone, *filter(None, [self.copy.move(carried.tip)])]

    def take_copy_back(self, tip: str | None) -> None:
        """Set the branch of the change set back to the run's tip: an attempt that does not count has moved
        it.

        If that is not possible, the log of the attempt that moves it next says why.
        """
        if self.copy is not None:
            left = tip or (self._carried.tip if self._carried else None) or ""
            self.copy.move(left, keeps=False)

    def _conflict(self) -> Conflict | None:
        file = self._records / "conflict"
        start, _, base = (file.read_text() if file.exists() else "").partition(" ")
        return Conflict(start=start, base=base) if is_commit(start) and is_commit(base) else None

    def _earlier(self, run: str, tip: str | None) -> Earlier:
        records = records_of(self._state, run, self._repo.name)
        base = records / BASE
        return Earlier(
            run_id=run,
            tip=tip,
            lock_holder=self._lock_holder(run),
            mended=(records / "mended").exists(),
            base=base.read_text() if base.exists() else "",
        )

    def _lock_holder(self, run: str) -> LockHolder | None:
        return WorkspaceLock(records_of(self._state, run, self._repo.name), self._folder.path).read()

    def _to_be_merged_by_hand(self, refused: Unmergeable, base: str) -> Unmergeable:
        """Leave a worktree for a merge by hand. A retry of this run begins with the commits that are then on
        its branch; a run with a change set waits for them.
        """
        waits = self._carried is not None and bool(self._carried.change_set)
        is_left = waits and self._conflict() is not None and git_dir_of(self._folder.path) is not None
        if not is_left:  # else a person may be in the middle of the merge
            self._folder.check_out(refused.start)
        (self._records / "mended").touch(mode=0o600)
        if waits:
            record = f"{refused.start} {base}"
            replace_file(self._records / "conflict", record.encode(), durable=False)
        branch, place = self._repo.branch, self._folder.path
        into, then = "the run's branch", f"when that is committed: coord retry {self._run}"
        if waits:
            into, then = "the change set", "when that is committed, the run goes on by itself"
        return Unmergeable(
            refused.start,
            f"{self._repo.name}: {branch} has new commits that do not merge into {into}: {refused.message}",
            f"merge it by hand: git -C {quoted(place)} merge {quoted(base or branch)}; {then}",
            waits=waits,
        )
