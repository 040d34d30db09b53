"""Read the branches of a change set in the checkout of this machine: commits, trailers, figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coordination.errors import GitRefused, NotFound
from coordination.git import ask_git, commit_of, contains, has_commit, is_commit
from coordination.runs.change_sets.records import PREFIX, branch_name
from coordination.text import listed, quoted

TRAILERS = ("Plan", "Todo", "Run", "Base")
SEPARATOR = "\x02"
FORMAT = "%x00" + SEPARATOR.join(
    ["%H", *(f"%(trailers:key=Coord-{name},valueonly,separator=%x20)" for name in TRAILERS)]
)
COMMITS_AT_MOST = 10_000


@dataclass(frozen=True, kw_only=True)
class BranchFacts:
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


def facts_of(checkout: Path, branch: str, plan: str, base: str, *, ref: str = "") -> BranchFacts:
    """Return the work on a branch. `base`: the tip of the base branch; `ref`: the ref of the branch, if it is
    no branch of the checkout. Raises NotFound, GitRefused.
    """
    if not (tip := commit_of(checkout, ref or f"refs/heads/{branch}")):
        raise NotFound(f"{checkout} has no branch {branch}", f"list them: git -C {quoted(checkout)} branch")
    fork = ask_git(checkout, "merge-base", base, tip) if base else ""
    if not fork:
        raise GitRefused(
            f"{branch} of {checkout} has no commit in common with the base branch",
            "name a branch that began there, or correct `branch` of the repository in the file",
        )
    rows = list(_log(checkout, fork, tip))
    base = next((row["Base"] for row in rows if row["Base"] and _is_base(checkout, row["Base"], tip)), fork)
    began = fork if contains(checkout, base, fork) else base  # a later merge of the base branch counts
    ours = [
        (todo, row["Run"])
        for row in reversed(rows)
        for todo in row["Todo"].split()  # the commit after a revert restores the work of several
        if plan in (row["Plan"], todo)
    ]
    counts = _counts(checkout, began, tip)
    return BranchFacts(
        branch=branch,
        base=began,
        tip=tip,
        commits=int(ask_git(checkout, "rev-list", "--count", f"{began}..{tip}") or 0),
        **counts,
        todos=dict(ours),
        runs=tuple(dict.fromkeys(run for _, run in ours if run)),
    )


def branch_with_work(checkout: Path, plan: str, base: str) -> str:
    """Return the branch with a plan's work: its own, else the one of a run that has all of it; empty if there
    is none. Raises GitRefused where several branches have some of it.
    """
    own = branch_name(plan)
    if commit_of(checkout, f"refs/heads/{own}"):
        return own
    listing = ask_git(checkout, "for-each-ref", "--format=%(refname:short)", f"refs/heads/{PREFIX}")
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
            f"merge them, or choose one: coord adopt {plan} REPO {newest[0]}",
        )
    return newest[0] if newest else ""


def _log(checkout: Path, base: str, tip: str) -> Iterator[Mapping[str, str]]:
    """Yield the trailers of the commits, newest first."""
    limits = (f"--max-count={COMMITS_AT_MOST}", tip, *([f"^{base}"] if base else []))
    for row in ask_git(checkout, "log", f"--format={FORMAT}", *limits, "--").split("\0")[1:]:
        values = [word.strip() for word in row.split(SEPARATOR)]
        if len(values) == len(TRAILERS) + 1:
            yield dict(zip(("commit", *TRAILERS), values, strict=True))


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
