"""What a succeeded todo leaves changed becomes one commit on the run's branch, by compare-and-swap.

What the todo committed itself is kept; the commit with the trailers comes on top, only if something is left. Untracked
repositories inside the worktree (a clone that the todo made to look at) are not taken in: git would record a commit that
exists nowhere else. Real submodules are tracked, and are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coordination.errors import GitRefused
from workers.git import ask, git
from workers.occupancy import Superseded

DURABLE = ("core.fsync=objects,reference", "core.fsyncMethod=batch")
"""git does not sync loose objects by default: a power loss would take a commit whose result Redis has acknowledged."""
UNMERGED = frozenset({"DD", "AU", "UD", "UA", "DU", "AA", "UU"})
NOBODY = ("user.name=coord", "user.email=coord@localhost")


@dataclass(frozen=True, kw_only=True)
class Stand:
    """A worktree after its todo: where it is, and the commit that the todo began with."""

    path: Path
    git_dir: Path
    branch: str
    since: str
    settings: Sequence[str]
    hold: int

    def git(self, *args: str, stdin: str = "", settings: Sequence[str] = ()) -> str:
        return git(*args, cwd=self.path, stdin=stdin, settings=(*self.settings, *settings), hold=self.hold)

    def commit_at(self, name: str) -> str:
        """Empty if there is no such commit."""
        return ask("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", cwd=self.path).stdout.strip()

    def contains(self, old: str, new: str) -> bool:
        return old == new or ask("merge-base", "--is-ancestor", old, new, cwd=self.path).returncode == 0


def message(run: str, todo: str, task: str, fence: int) -> str:
    subject = " ".join(task.split())
    return f"{todo}: {subject}\n\nCoord-Run: {run}\nCoord-Todo: {todo}\nCoord-Fence: {fence}\n"


def commit(stand: Stand, text: str) -> str:
    """The branch's new tip; the old one if nothing changed. Raises GitRefused, or Superseded if the branch moved."""
    was = stand.commit_at(f"refs/heads/{stand.branch}")
    head = stand.commit_at("HEAD")
    tip = was or stand.since
    # HEAD, where the todo went on from the tip on a branch of its own or on none.
    parent = head if head and stand.contains(tip, head) else tip
    if not stand.contains(stand.since, parent):
        raise GitRefused(
            f"{stand.branch} no longer contains {stand.since[:12]}, where the todo began: its history was rewritten",
            "let the todo add commits; to undo earlier ones, revert them",
        )
    merged = _merged(stand) if parent == head else []
    new = parent
    if _stage(stand) or merged or parent != head:
        new = _snapshot(stand, [parent, *merged], text)
    if new != was:
        _move(stand, new, was)
    return new


def _stage(stand: Stand) -> bool:
    """Put everything into the index; whether anything differs from HEAD."""
    status = stand.git("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all")
    changes = [(line[:2], line[3:]) for line in status.split("\0") if line]
    if conflicts := [name for state, name in changes if state in UNMERGED]:
        files = ", ".join(conflicts[:5])
        raise GitRefused(
            f"the todo left a merge with conflicts in {files}", "let it resolve them, or exit with an error"
        )
    nested = [name for state, name in changes if state == "??" and name.endswith("/")]  # git looks into other folders
    pathspecs = [":/", *(f":(top,exclude,literal){name.rstrip('/')}" for name in nested)]
    if len(changes) > len(nested):
        options = ("--all", "--pathspec-from-file=-", "--pathspec-file-nul")
        stand.git("add", *options, stdin="\0".join(pathspecs), settings=DURABLE)
    return len(changes) > len(nested)


def _snapshot(stand: Stand, parents: Sequence[str], text: str) -> str:
    tree = stand.git("write-tree", settings=DURABLE)
    if len(parents) == 1 and tree == stand.git("rev-parse", f"{parents[0]}^{{tree}}"):
        return parents[0]
    options = [word for parent in parents for word in ("-p", parent)]
    new = stand.git("commit-tree", *options, "-F", "-", tree, stdin=text, settings=(*DURABLE, *_identity(stand)))
    if len(parents) > 1:
        stand.git("merge", "--quit")
    return new


def _merged(stand: Stand) -> list[str]:
    """Other parents of a merge that the todo prepared and did not commit."""
    heads = stand.git_dir / "MERGE_HEAD"
    return heads.read_text().split() if heads.exists() else []


def _identity(stand: Stand) -> Sequence[str]:
    known = ask("config", "--name-only", "--get-regexp", r"^user\.(name|email)$", cwd=stand.path).stdout.split()
    return () if {"user.name", "user.email"} <= set(known) else NOBODY


def _move(stand: Stand, new: str, old: str) -> None:
    ref = f"refs/heads/{stand.branch}"
    try:
        stand.git("update-ref", "-m", "coord: todo succeeded", ref, new, old, settings=DURABLE)
    except GitRefused as refused:
        message = (
            f"{stand.branch} moved while the todo was being committed: a newer attempt took over ({refused.message})"
        )
        raise Superseded(message, "nothing to do: the newer attempt counts") from refused
