"""Facts that git tells about the commits of landings and pull requests; records in Redis prove nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from coordination.git import commit_of, is_commit
from workers.landing.prepare import made, merge
from workers.landing.records import BaseBranch, Prepared, Refused
from workers.landing.remote import contains
from workers.workspace.git import ask, git

REVERTS = "Coord-Reverts"
"""Trailer of a commit that reverts another one."""
MOST_UPDATES = 50
"""Merges of the base branch into the head of a request that are followed back."""


def commit_in(known: Mapping[str, Any], name: str) -> str:
    """Return a commit or tree of a record; empty for anything else: a record in Redis proves nothing."""
    value = known.get(name)
    return value if isinstance(value, str) and is_commit(value) else ""


def lands(at: BaseBranch, commit: str, tip: str) -> bool:
    """Return whether git shows that a commit lands this tip: a record in Redis proves nothing."""
    if commit == tip:
        return True
    body = _lines(at, "show", "-s", "--format=%(trailers:key=Coord-Tip,valueonly)", commit)
    return body is not None and tip in body.split()


def landing_of(at: BaseBranch, tip: str, run: str, base: str) -> str:
    """Return the commit on the base branch by which this run landed the tip; empty if there is none."""
    named = ("--all-match", f"--grep=^Coord-Tip: {tip}$", f"--grep=^Coord-Run: {run}$")
    return (_lines(at, "log", "--format=%H", "-1", "--first-parent", *named, base, f"^{tip}") or "").strip()


def revert_of(at: BaseBranch, commit: str, base: str) -> str:
    """Return the commit on the base branch that reverts another one; empty if there is none."""
    found = _lines(at, "log", "--format=%H", "-1", f"--grep=^{REVERTS}: {commit}$", f"{commit}..{base}")
    return (found or "").strip()


def had_tree(at: BaseBranch, base: str, commit: str, tree: str) -> bool:
    """Return whether the base branch had this tree: right before a commit, or ever. So a revert brings back
    what was there, and not what Redis names.
    """
    found = (_lines(at, "rev-parse", "--verify", "--quiet", f"{tree}^{{tree}}") or "").strip()
    parent = (_lines(at, "rev-parse", "--verify", "--quiet", f"{commit}^1^{{tree}}") or "").strip()
    if found and found == parent and contains(at, base, commit):
        return True
    return bool(found) and found in (_lines(at, "log", "--format=%T", base) or "").split()


def tree_of(at: BaseBranch, commit: str) -> str:
    """Return the tree of a commit. Raises GitRefused."""
    return git("rev-parse", "--verify", f"{commit}^{{tree}}", cwd=at.path).strip()


def as_checked(at: BaseBranch, made: Prepared, checked: str) -> Prepared:
    """Return the commit that was checked, where it has the tree and the parents of the one made now."""
    if not checked or checked == made.commit:
        return made
    shape = ("show", "-s", "--format=%T %P")
    same = _lines(at, *shape, checked) == _lines(at, *shape, made.commit)
    return replace(made, commit=checked) if same else made


def merge_base(at: BaseBranch, base: str, tip: str) -> str:
    """Return the last commit that both have; empty if they have no common history."""
    return (_lines(at, "merge-base", base, tip) or "").strip()


def _lines(at: BaseBranch, *args: str) -> str | None:
    """Return the lines that git prints; None if it refuses."""
    done = ask(*args, cwd=at.path)
    return None if done.returncode else str(done.stdout)


def heads_of(at: BaseBranch, *, tip: str, head: str, pushed: str, base: str) -> tuple[str, ...]:
    """Return the commits for which an approval of `head` holds: it, and those down to the tip of the change
    set from which coord made it by merging the base branch in. Empty where the head is of somebody else.

    `pushed`: the ref of the commit that this clone has pushed last; `base`: the base branch now. Each merge
    is computed again and must give the same tree: no record is believed.
    """
    if head == tip:
        return (tip,)
    if head != commit_of(at.path, pushed):
        return ()
    found = [head]
    while found[-1] != tip:
        parents = _parents(at, found[-1])
        if len(parents) != 2 or len(found) > MOST_UPDATES or not contains(at, base, parents[1]):
            return ()
        merged = merge(at, *parents)
        if isinstance(merged, Refused) or merged.tree != tree_of(at, found[-1]):
            return ()
        found.append(parents[0])
    return tuple(found)


def update_commit(at: BaseBranch, *, head: str, base: str, change_set: str) -> Prepared | Refused:
    """Return the commit that merges the base branch into the head of a request. Refused: CONFLICT."""
    merged = merge(at, head, base)
    if isinstance(merged, Refused):
        return merged
    message = f"Merge {at.branch} into {change_set}\n\nCoord-Plan: {change_set}\nCoord-Base: {base}\n"
    return made(at, merged.tree, (head, base), message, base)


def tree_before(at: BaseBranch, *, merged: str, head: str, since: str) -> str:
    """Return the tree of the base branch before a request came in, whatever the method of the forge was.

    `merged`: the commit on the base branch; `head`: the head of the request; `since`: the commit at which the
    change set began.
    """
    if merged == head or contains(at, head, merged):
        return tree_of(at, since)
    if len(_parents(at, merged)) > 1:
        return tree_of(at, f"{merged}^1")
    return tree_of(at, f"{merged}~{_replayed(at, merged, head)}")


def _replayed(at: BaseBranch, merged: str, head: str) -> int:
    """Return how many commits of the base branch a request without a merge commit became: one by a squash,
    all of its own by a rebase.
    """
    count = ask("rev-list", "--no-merges", "--count", f"{merged}..{head}", cwd=at.path).stdout.strip()
    most, tree = int(count) if count.isdecimal() else 1, tree_of(at, merged)
    best = 1
    for number in range(2, most + 1):
        before = _commit(at, f"{merged}~{number}")
        if not before or contains(at, head, _commit(at, f"{merged}~{number - 1}")):
            break
        whole = merge(at, before, head)
        if not isinstance(whole, Refused) and whole.tree == tree:
            best = number
    return best


def _parents(at: BaseBranch, commit: str) -> tuple[str, ...]:
    done = ask("rev-list", "--parents", "-n", "1", commit, cwd=at.path)
    return tuple(done.stdout.split()[1:]) if done.returncode == 0 else ()


def _commit(at: BaseBranch, name: str) -> str:
    return ask("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", cwd=at.path).stdout.strip()
