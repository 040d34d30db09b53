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
NOBODY = ("user.name=coord", "user.email=coord@localhost")


@dataclass(frozen=True, kw_only=True)
class Stand:
    """A worktree after its todo: where it is, and the commit that the todo began with."""

    path: Path
    branch: str
    since: str
    settings: Sequence[str]
    hold: int

    def git(self, *args: str, stdin: str = "", settings: Sequence[str] = ()) -> str:
        return git(*args, cwd=self.path, stdin=stdin, settings=(*self.settings, *settings), hold=self.hold)

    def commit_at(self, name: str) -> str:
        """Empty if there is no such commit."""
        answer = ask("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", cwd=self.path)
        return answer.stdout.strip()

    def contains(self, old: str, new: str) -> bool:
        return ask("merge-base", "--is-ancestor", old, new, cwd=self.path).returncode == 0


def message(run: str, todo: str, task: str, fence: int) -> str:
    subject = " ".join(task.split())
    return f"{todo}: {subject}\n\nCoord-Run: {run}\nCoord-Todo: {todo}\nCoord-Fence: {fence}\n"


def commit(stand: Stand, text: str) -> str:
    """The branch's new tip; the old one if nothing changed. Raises GitRefused, or Superseded if the branch moved."""
    was = stand.commit_at(f"refs/heads/{stand.branch}")
    parent = _parent(stand, was or stand.since)
    if not stand.contains(stand.since, parent):
        raise GitRefused(
            f"{stand.branch} no longer contains {stand.since[:12]}, where the todo began: its history was rewritten",
            "let the todo add commits; to undo earlier ones, revert them",
        )
    _stage(stand)
    new = _snapshot(stand, parent, text)
    if new != was:
        _move(stand, new, was)
    return new


def _parent(stand: Stand, tip: str) -> str:
    """The tip; or HEAD, where the todo went on from the tip on a branch of its own or on none."""
    head = stand.commit_at("HEAD")
    return head if head and stand.contains(tip, head) else tip


def _stage(stand: Stand) -> None:
    unmerged = stand.git("diff", "--name-only", "--diff-filter=U")
    if unmerged:
        files = ", ".join(unmerged.splitlines()[:5])
        raise GitRefused(
            f"the todo left a merge with conflicts in {files}", "let it resolve them, or exit with an error"
        )
    untracked = stand.git("ls-files", "--others", "--exclude-standard", "-z").split("\0")
    nested = [name for name in untracked if name.endswith("/")]  # git looks into every other folder
    pathspecs = [":/", *(f":(top,exclude,literal){name.rstrip('/')}" for name in nested)]
    options = ("--all", "--pathspec-from-file=-", "--pathspec-file-nul")
    stand.git("add", *options, stdin="\0".join(pathspecs), settings=DURABLE)


def _snapshot(stand: Stand, parent: str, text: str) -> str:
    tree = stand.git("write-tree", settings=DURABLE)
    merged = _merged(stand, parent)
    if not merged and tree == stand.git("rev-parse", f"{parent}^{{tree}}"):
        return parent
    parents = [word for commit in (parent, *merged) for word in ("-p", commit)]
    new = stand.git("commit-tree", *parents, "-F", "-", tree, stdin=text, settings=(*DURABLE, *_identity(stand)))
    if merged:
        stand.git("merge", "--quit")
    return new


def _merged(stand: Stand, parent: str) -> list[str]:
    """Other parents of a merge that the todo prepared and did not commit."""
    heads = Path(stand.git("rev-parse", "--path-format=absolute", "--git-path", "MERGE_HEAD"))
    return heads.read_text().split() if heads.exists() and stand.commit_at("HEAD") == parent else []


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
