"""Read change sets in the checkouts of this machine: the difference to the base, and the work on a branch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from coordination.branches import OwnBranches, name_of_set
from coordination.credentials.detection import without_known_formats
from coordination.errors import GitRefused, NotFound
from coordination.frozen import FrozenModel
from coordination.git import ask_git, commit_of, contains, diff_pieces, has_commit, is_commit
from coordination.runs.change_sets.records import RepoChange
from coordination.text import listed, quoted
from coordination.trailers import TrailerLog

LONGEST_BYTES = 8 << 20
"""Most bytes of the text of one repository: a reader of more opens git."""
NUMBERS = ("--numstat", "-z", "--no-renames")
TRAILERS = TrailerLog(("Plan", "Todo", "Run", "Base"))
MOST_COMMITS = 10_000


class FileChange(FrozenModel):
    """A file that a change set adds, changes or removes."""

    path: str
    added: int | None
    """Lines; None for a binary file."""
    removed: int | None


class RepoDiff(FrozenModel):
    """The difference of a change set in one repository."""

    plan: str
    repo: str
    branch: str
    base: str
    tip: str
    host: str
    files: tuple[FileChange, ...] = ()
    diff: str | None = None
    """The difference as git prints it, with *** in place of tokens of a known format; None where only the
    files were asked for.
    """
    cut: bool = False
    """True if `diff` is only the beginning."""

    def shortened(self, limit: int) -> RepoDiff:
        """Return the record with at most `limit` characters of the text."""
        if self.diff is None or len(self.diff) <= limit:
            return self
        return self.model_copy(update={"diff": self.diff[:limit], "cut": True})


def diff_of(plan: str, change: RepoChange, checkout: Path | None, branch: str, *, stat: bool) -> RepoDiff:
    """Return the difference. `checkout`: the repository on this machine; `branch`: its base branch, for a
    change set without a recorded base; `stat`: without the text.

    Raises GitRefused where this machine does not have the commits.
    """
    if checkout is None or not has_commit(checkout, change.tip):
        raise _elsewhere(plan, change, checkout)
    base = change.base or ask_git(checkout, "merge-base", change.tip, f"refs/heads/{branch}")
    if not has_commit(checkout, base):
        raise _elsewhere(plan, change, checkout)
    known = RepoDiff(
        plan=plan, repo=change.repo, branch=change.branch, base=base, tip=change.tip, host=change.host
    )
    return _compared(known, checkout, stat=stat)


def diff_of_commit(known: RepoDiff, checkout: Path | None) -> RepoDiff:
    """Return a record of two commits with the difference between them.

    Raises GitRefused where this machine does not have them.
    """
    if checkout is None or not (has_commit(checkout, known.base) and has_commit(checkout, known.tip)):
        where = f"the checkout {checkout}" if checkout else "this machine"
        raise GitRefused(
            f"{known.repo}: {where} does not have the commit {known.tip[:12]}",
            f"run it on {known.host}: git diff {known.base[:12]} {known.tip[:12]}",
        )
    return _compared(known, checkout, stat=False)


def _compared(known: RepoDiff, checkout: Path, *, stat: bool) -> RepoDiff:
    files = tuple(_files(checkout, known.base, known.tip))
    if stat:
        return known.model_copy(update={"files": files})
    text, cut = _text(checkout, known.base, known.tip, known.repo)
    return known.model_copy(update={"files": files, "diff": text, "cut": cut})


def _elsewhere(plan: str, change: RepoChange, checkout: Path | None) -> GitRefused:
    where = f"the checkout {checkout}" if checkout else "this machine"
    there = f", which are on {change.host}" if change.host else ""
    return GitRefused(
        f"{change.repo}: {where} does not have the commits of {plan}{there}",
        f"run it on {change.host}"
        if change.host
        else f"rebuild the change set from its branches: coord plan adopt {plan}",
    )


def _text(checkout: Path, base: str, tip: str, repo: str) -> tuple[str, bool]:
    """Return the difference with the name of the repository before each path, and whether it was cut."""
    prefixes = (f"--src-prefix=a/{repo}/", f"--dst-prefix=b/{repo}/")
    pieces, size = [], 0
    for piece in diff_pieces(checkout, base, tip, "--no-color", *prefixes):
        pieces.append(piece)
        size += len(piece)
        if size > LONGEST_BYTES:
            break
    whole = b"".join(pieces)[:LONGEST_BYTES].decode(errors="replace")
    return without_known_formats(whole), size > LONGEST_BYTES


def _files(checkout: Path, base: str, tip: str) -> Iterator[FileChange]:
    listing = b"".join(diff_pieces(checkout, base, tip, *NUMBERS)).decode(errors="replace")
    for line in filter(None, listing.split("\0")):
        added, removed, path = line.split("\t", 2)
        yield FileChange(path=path, added=_number(added), removed=_number(removed))


def _number(word: str) -> int | None:
    return int(word) if word.isdecimal() else None


@dataclass(frozen=True, kw_only=True)
class BranchWork:
    """The work on a branch, beyond its base branch."""

    branch: str
    base: str
    tip: str
    commits: int
    files: int
    added: int
    removed: int
    todos: Mapping[str, str] = field(default_factory=dict)
    """Todo → the run that committed it last, by the trailers of the commits."""
    runs: tuple[str, ...] = ()
    """Oldest first."""


def facts_of(checkout: Path, branch: str, plan: str, base: str, *, ref: str = "") -> BranchWork:
    """Return the work on a branch. `base`: the tip of the base branch; `ref`: the ref of the branch, if it is
    no branch of the checkout. Raises NotFound, GitRefused.
    """
    if not (tip := commit_of(checkout, ref or f"refs/heads/{branch}")):
        raise NotFound(f"{checkout} has no branch {branch}", f"list them: git -C {quoted(checkout)} branch")
    fork = ask_git(checkout, "merge-base", base, tip) if base else ""
    if not fork:
        raise GitRefused(
            f"{branch} of {checkout} has no common history with the base branch",
            "name a branch that began there, or correct `branch` of the repository in the file",
        )
    rows = list(_log(checkout, fork, tip))
    base = next((row["Base"] for row in rows if row["Base"] and _is_base(checkout, row["Base"], tip)), fork)
    began = fork if contains(checkout, base, fork) else base  # a later merge of the base branch counts
    ours = list(_todos(reversed(rows), plan))
    counts = _counts(checkout, began, tip)
    return BranchWork(
        branch=branch,
        base=began,
        tip=tip,
        commits=int(ask_git(checkout, "rev-list", "--count", f"{began}..{tip}") or 0),
        **counts,
        todos=dict(ours),
        runs=tuple(dict.fromkeys(run for _, run in ours if run)),
    )


def todos_of(checkout: Path, plan: str, tip: str, *, without: str) -> Set[str]:
    """Return the todos of a plan that commits of `tip` name, and that `without` lacks."""
    return {todo for todo, _ in _todos(_log(checkout, without, tip), plan)}


def _todos(rows: Iterable[Mapping[str, str]], plan: str) -> Iterator[tuple[str, str]]:
    """Yield each todo of the plan that a commit names, with its run."""
    for row in rows:
        for todo in row["Todo"].split():  # the commit after a revert restores the work of several
            if plan in (row["Plan"], todo):
                yield todo, row["Run"]


def branch_with_work(checkout: Path, repo: str, plan: str, base: str, prefix: str) -> str:
    """Return the branch with a plan's work: its own, else the one of a run that has all of it; empty if there
    is none. `prefix`: that of new branches. Raises GitRefused where several branches have some of it.
    """
    ours = OwnBranches.of(checkout, prefix)
    for own in ours.named(name_of_set(plan)):
        if commit_of(checkout, f"refs/heads/{own}"):
            return own
    listing = ask_git(checkout, "for-each-ref", "--format=%(refname:lstrip=2)", *ours.refs)
    found = {
        name: commit_of(checkout, f"refs/heads/{name}")
        for name in listing.splitlines()
        if any(plan in (row["Plan"], row["Todo"]) for row in _log(checkout, base, f"refs/heads/{name}"))
    }
    newest = [
        name
        for name, tip in found.items()
        if not any(tip != other and contains(checkout, tip, other) for other in found.values())
    ]
    if len({found[name] for name in newest}) > 1:
        raise GitRefused(
            f"several branches of {checkout} have work of {plan}: {listed(newest)}",
            f"merge them, or choose one: coord plan adopt {quoted(plan, repo, newest[0])}",
        )
    return newest[0] if newest else ""


def pushed_branch(checkout: Path, plan: str, prefix: str) -> str:
    """Return the remote-tracking ref of a plan's branch, as of the last `git fetch`; empty without one.
    `prefix`: that of new branches.
    """
    names = OwnBranches.of(checkout, prefix).named(name_of_set(plan))
    patterns = (f"refs/remotes/*/{name}" for name in names)
    return next(iter(ask_git(checkout, "for-each-ref", "--format=%(refname)", *patterns).splitlines()), "")


def _log(checkout: Path, base: str, tip: str) -> Iterator[Mapping[str, str]]:
    """Yield the trailers of the commits, newest first."""
    limits = (f"--max-count={MOST_COMMITS}", tip, *([f"^{base}"] if base else []))
    yield from TRAILERS.rows(ask_git(checkout, "log", *TRAILERS.options, *limits, "--"))


def _is_base(checkout: Path, commit: str, tip: str) -> bool:
    known = is_commit(commit) and has_commit(checkout, commit)
    return known and contains(checkout, commit, tip)


def _counts(checkout: Path, base: str, tip: str) -> dict[str, int]:
    rows = ask_git(checkout, "diff", "--no-ext-diff", "--no-textconv", "--no-renames", "--numstat", base, tip)
    numbers = [row.split("\t", 2)[:2] for row in rows.splitlines()]
    return {
        "files": len(numbers),
        "added": sum(int(added) for added, _ in numbers if added.isdecimal()),
        "removed": sum(int(removed) for _, removed in numbers if removed.isdecimal()),
    }
