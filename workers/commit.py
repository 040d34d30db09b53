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
from workers.trouble import GitInterrupted

DURABLE = ("core.fsync=objects,reference", "core.fsyncMethod=batch")
"""git does not sync loose objects by default: a power loss would take a commit whose result Redis has acknowledged."""
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


def message(run: str, todo: str, task: str, fence: int, source: str = "") -> str:
    """`source`: `<run>/<todo>` whose changes these are, where nothing ran."""
    subject = " ".join(task.split())
    cached = f"Coord-Cached: {source}\n" if source else ""
    return f"{todo}: {subject}\n\nCoord-Run: {run}\nCoord-Todo: {todo}\nCoord-Fence: {fence}\n{cached}"


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one `git status` says."""

    head: str
    """The commit at HEAD; empty if there is none."""
    branch: str
    """What HEAD is on."""
    changed: bool
    nested: Sequence[str]
    """Untracked repositories."""
    conflicts: Sequence[str]


def look(stand: Stand) -> Look:
    """HEAD, its branch and all changes by a single call of git: most todos that run tests need no other."""
    options = ("--porcelain=v2", "--branch", "--no-ahead-behind", "-z", "--no-renames", "--untracked-files=all")
    lines = [line for line in stand.git("status", *options).split("\0") if line]
    facts = dict(line[2:].partition(" ")[::2] for line in lines if line.startswith("# "))
    entries = [line for line in lines if not line.startswith("# ")]
    nested = [e[2:] for e in entries if e.startswith("? ") and e.endswith("/")]  # git looks into other folders
    return Look(
        head=facts["branch.oid"].replace("(initial)", ""),
        branch=facts["branch.head"],
        changed=len(entries) > len(nested),
        nested=nested,
        conflicts=[e.split(" ", 10)[10] for e in entries if e.startswith("u ")],
    )


def commit(stand: Stand, text: str) -> str:
    """The branch's new tip; the old one if nothing changed. Raises GitRefused, or Superseded if the branch moved."""
    seen = look(stand)
    head = seen.head
    was = head if seen.branch == stand.branch else stand.commit_at(f"refs/heads/{stand.branch}")
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
    if _stage(stand, seen) or merged or parent != head:
        new = _snapshot(stand, [parent, *merged], text)
    if new != was:
        _move(stand, new, was)
    return new


def _stage(stand: Stand, seen: Look) -> bool:
    """Put everything into the index; whether anything differs from HEAD."""
    if seen.conflicts:
        files = ", ".join(seen.conflicts[:5])
        raise GitRefused(
            f"the todo left a merge with conflicts in {files}", "let it resolve them, or exit with an error"
        )
    if seen.changed:
        pathspecs = [":/", *(f":(top,exclude,literal){name.rstrip('/')}" for name in seen.nested)]
        options = ("--all", "--pathspec-from-file=-", "--pathspec-file-nul")
        stand.git("add", *options, stdin="\0".join(pathspecs), settings=DURABLE)
    return seen.changed


def _snapshot(stand: Stand, parents: Sequence[str], text: str) -> str:
    tree = stand.git("write-tree", settings=DURABLE)
    if len(parents) == 1 and tree == stand.git("rev-parse", f"{parents[0]}^{{tree}}"):
        return parents[0]
    options = [word for parent in parents for word in ("-p", parent)]
    new = stand.git("commit-tree", *options, "-F", "-", tree, stdin=text, settings=(*DURABLE, *identity(stand.path)))
    if len(parents) > 1:
        stand.git("merge", "--quit")
    return new


def _merged(stand: Stand) -> list[str]:
    """Other parents of a merge that the todo prepared and did not commit."""
    heads = stand.git_dir / "MERGE_HEAD"
    return heads.read_text().split() if heads.exists() else []


def identity(path: Path) -> Sequence[str]:
    """Settings for our own commits: none where the user has a name."""
    known = ask("config", "--name-only", "--get-regexp", r"^user\.(name|email)$", cwd=path).stdout.split()
    return () if {"user.name", "user.email"} <= set(known) else NOBODY


def _move(stand: Stand, new: str, old: str) -> None:
    ref = f"refs/heads/{stand.branch}"
    try:
        stand.git("update-ref", "-m", "coord: todo succeeded", ref, new, old, settings=DURABLE)
    except GitInterrupted:  # nobody knows whether it has moved; the next attempt sets it back
        raise
    except GitRefused as refused:
        message = (
            f"{stand.branch} moved while the todo was being committed: a newer attempt took over ({refused.message})"
        )
        raise Superseded(message, "nothing to do: the newer attempt counts") from refused
