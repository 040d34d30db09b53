"""The branch `coord/<plan>` of a change set: a copy of its tip in Redis, for people and their tools.

An attempt moves it right before its settle, by compare-and-swap and alone in its worktree, so the branch
stands when the run has ended; one that does not count sets it back, or the attempt after it. It is mended
when the next run begins. `refs/coord/copies/` keeps the commit at which coord left it, so a branch that
stands elsewhere was moved by a person: it stays, and so does one that is checked out with uncommitted
changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coordination.errors import GitRefused
from coordination.runs.change_sets.records import PREFIX, copy_ref, discarded_ref
from workers.process.trouble import GitInterrupted
from workers.workspace.git import ask, git
from workers.workspace.git_sessions import QUICK, GitSessions
from workers.workspace.repository import contains, is_commit, worktrees


@dataclass(frozen=True, kw_only=True)
class BranchHeads:
    head: str
    """The commit of the branch; empty without one."""
    left: str
    """The commit at which coord left it; empty where coord never made it."""

    @property
    def is_moved(self) -> bool:
        """Return whether somebody else has moved or made the branch."""
        return self.head not in ("", self.left)


@dataclass(frozen=True, kw_only=True)
class BranchCopy:
    checkout: Path
    common_dir: Path
    branch: str
    sessions: GitSessions | None = None
    """The worker's; None: each move starts git."""

    @property
    def ref(self) -> str:
        return f"refs/heads/{self.branch}"

    @property
    def kept(self) -> str:
        """The ref of the commit at which coord left the branch."""
        return copy_ref(self.branch)

    def read(self) -> BranchHeads:
        options = ("--format=%(refname) %(objectname)",)
        listing = git("for-each-ref", *options, self.ref, self.kept, cwd=self.checkout)
        found = dict(line.split(" ") for line in listing.splitlines())
        return BranchHeads(head=found.get(self.ref, ""), left=found.get(self.kept, ""))

    def follow(self, tip: str, before: str | None = None, *, keeps: bool = False) -> str:
        """Move the branch to the tip (empty: delete it); return why it stays where it is, else empty.

        `before`: where it is expected, which spares a look; `keeps`: commits that the tip lacks stay under
        `refs/coord/discarded`. Never raises for what git or a person does.
        """
        if tip and not is_commit(tip):
            return f"{self.branch} stays where it is: {tip[:40]!r} is no commit"
        if not self.branch.startswith(PREFIX):  # as forged records say: no base branch moves by a copy
            return f"{self.branch} stays where it is: it is no branch of a change set"
        try:
            if keeps:
                self._keep(tip)
            return "" if before and tip and self._is_moved_at_once(tip, before) else self._follow(tip)
        except (GitRefused, GitInterrupted) as refused:
            return f"{self.branch} stays where it is: {refused.message}"

    def _keep(self, tip: str) -> None:
        head = self.read().head
        if head and not (tip and contains(self.checkout, head, tip)):
            git("update-ref", discarded_ref(self.branch, head), head, cwd=self.checkout, settings=QUICK)

    def _follow(self, tip: str) -> str:
        heads = self.read()
        if heads.head == tip == heads.left:
            return ""
        if heads.is_moved and not self._is_built_on(heads, tip):
            return f"{self.branch} stays at {heads.head[:12]}: somebody else has moved it"
        place = self._place() if heads.head else None
        if place is not None and heads.head != tip:
            if why := _occupied(place):
                return f"{self.branch} stays at {heads.head[:12]}: it is checked out in {place}, {why}"
            if not tip:
                return f"{self.branch} stays at {heads.head[:12]}: it is checked out in {place}"
            git("reset", "--keep", "--quiet", tip, cwd=place)
            git("update-ref", self.kept, tip, cwd=self.checkout, settings=QUICK)
            return ""
        refused = self._swap(tip, heads.head, heads.left)
        return f"{self.branch} stays where it is: {refused}" if refused else ""

    def _is_moved_at_once(self, tip: str, before: str) -> bool:
        """Move the branch if it stands where it is expected; return whether it was moved."""
        if self._is_checked_out():
            return False
        if self.sessions is None:
            return not self._swap(tip, before, before)
        return self.sessions.move(self.checkout, self.common_dir, self._changes(tip, before, before))

    def _is_built_on(self, heads: BranchHeads, tip: str) -> bool:
        """Return whether the tip has what a person has added to the branch."""
        added = not heads.left or contains(self.checkout, heads.left, heads.head)
        return heads.head == tip or bool(tip and added and contains(self.checkout, heads.head, tip))

    def _swap(self, tip: str, head: str, left: str) -> str:
        """Move branch and record at once; return why git refuses it, as where one of them is elsewhere."""
        changes = self._changes(tip, head, left)
        done = ask("update-ref", "--stdin", cwd=self.checkout, stdin=changes, settings=QUICK)
        return (done.stderr.strip() or f"git ended with {done.returncode}") if done.returncode else ""

    def _changes(self, tip: str, head: str, left: str) -> str:
        return _change(self.ref, tip, head) + _change(self.kept, tip, left)

    def _is_checked_out(self) -> bool:
        """Return whether a worktree has the branch, by small files: this is asked after each todo."""
        heads = (self.common_dir / "HEAD", *self.common_dir.glob("worktrees/*/HEAD"))
        return any(_text(file).strip() == f"ref: {self.ref}" for file in heads)

    def _place(self) -> Path | None:
        found = (place for place, on in worktrees(self.checkout) if on == self.ref and place.is_dir())
        return next(found, None)


def _change(ref: str, new: str, old: str) -> str:
    if new:
        return f"update {ref} {new} {old}\n" if old else f"create {ref} {new}\n"
    return f"delete {ref} {old}\n" if old else ""


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def _occupied(place: Path) -> str:
    """Return why the files of a checkout must not change; empty if nothing speaks against it."""
    changed = git("status", "--porcelain", "-z", cwd=place).split("\0")[0]
    return f"with uncommitted changes ({changed[3:]})" if changed else ""
