"""Facts that the commits of a landing tell; records of Redis about them prove nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from coordination.git import is_commit
from workers.landing.records import BaseBranch, Prepared
from workers.workspace.git import ask, git

REVERTS = "Coord-Reverts"
"""Trailer of a commit that reverts another one."""


def commit_in(known: Mapping[str, Any], name: str) -> str:
    """Return a commit or tree of a record; empty for anything else: Redis may tell what it wants."""
    value = known.get(name)
    return value if isinstance(value, str) and is_commit(value) else ""


def contains(at: BaseBranch, commit: str, other: str) -> bool:
    """Return whether a commit contains another one, which may be unknown here."""
    return _lines(at, "merge-base", "--is-ancestor", other, commit) is not None


def lands(at: BaseBranch, commit: str, tip: str) -> bool:
    """Return whether a commit is one that lands this tip: what Redis says of it proves nothing."""
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
    wanted = (_lines(at, "rev-parse", "--verify", "--quiet", f"{tree}^{{tree}}") or "").strip()
    parent = (_lines(at, "rev-parse", "--verify", "--quiet", f"{commit}^1^{{tree}}") or "").strip()
    if wanted and wanted == parent and contains(at, base, commit):
        return True
    return bool(wanted) and wanted in (_lines(at, "log", "--format=%T", base) or "").split()


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
    """Return git's answer; None for a no."""
    done = ask(*args, cwd=at.path)
    return None if done.returncode else str(done.stdout)
