"""What a todo changed, from one tree to another, as a patch that another worktree can be given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from coordination.errors import CoordinationError, GitRefused
from workers.git import ask
from workers.repository import is_commit
from workers.worktree import Worktree


class NotRestored(CoordinationError):
    """The patch does not lead to the tree that it is said to lead to."""


def tree_of(commit: str, at: Worktree) -> str:
    return at.git("rev-parse", "--verify", f"{commit}^{{tree}}")


def trees_behind(predecessors: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return predecessor → the tree of its commit, for entries as COORD_CONTEXT has them. A commit that this machine does not have
    stands for itself: no earlier run has left the same one, so nothing is found for it.
    """
    committed = [one for one in predecessors if one["commit"]]
    found = {one["todo"]: one["commit"] for one in committed}
    for path in {one["path"] for one in committed if one["path"]}:
        here = [one for one in committed if one["path"] == path and is_commit(one["commit"])]
        answer = ask("rev-parse", *(f"{one['commit']}^{{tree}}" for one in here), cwd=Path(path))
        if answer.returncode == 0:
            found |= dict(zip((one["todo"] for one in here), answer.stdout.split(), strict=True))
    return found


def patch(since: str, tip: str, at: Worktree, file: Path) -> bytes:
    """From commit to commit; empty where the tree is the same. `file`: where git may write it."""
    options = ("-r", "-p", "--binary", "--full-index", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color")
    prefixes = ("--src-prefix=a/", "--dst-prefix=b/", "--submodule=short")
    at.git("diff-tree", *options, *prefixes, f"--output={file}", since, tip)
    return file.read_bytes()


def restore(workspace: Worktree, changes: bytes, file: Path, tree: str, todo: str, task: str, source: str) -> str:
    """Commits the changes in the workspace, which is clean; returns the tip. Raises NotRestored with the workspace clean as before, and
    Superseded. `source`: `<run>/<todo>` that made them.
    """
    try:
        if changes:
            file.write_bytes(changes)
            _check(workspace.apply(file), tree)
        tip = workspace.commit(todo, task, source)
        _check(tree_of(tip, workspace), tree)
    except (GitRefused, NotRestored) as refused:
        workspace.start_anew()
        raise NotRestored(f"it could not be restored: {refused.message}", "it runs instead") from refused
    return tip


def _check(came_to: str, tree: str) -> None:
    if came_to != tree:
        raise NotRestored(f"it leads to tree {came_to[:12]} instead of {tree[:12]}", "it runs instead")
