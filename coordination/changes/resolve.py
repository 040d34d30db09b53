"""Find the worktree where a conflict of a change set with its base branch is resolved, and the next step.

A run that cannot merge the base keeps its worktree and waits. A person merges and commits there; then the
run continues by itself or, if it has ended, by a retry. A landing keeps no worktree: coord makes one of the
branch of the change set, and adopts the merge commit in it.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from coordination.branches import last_part
from coordination.changes.merge import merge_trees
from coordination.errors import GitRefused
from coordination.files import below, is_folder, make_private
from coordination.frozen import FrozenModel
from coordination.git import ask_git, base_tip, commit_of, contains, is_commit
from coordination.models import Repo
from coordination.runs.change_sets.records import RepoChange
from coordination.runs.records import RunStatus
from coordination.runs.submission.draft import HOST
from coordination.runs.views.run_list import newest_of_each
from coordination.runs.views.run_view import branch_of_run
from coordination.text import quoted

if TYPE_CHECKING:
    from coordination.runs.connection import Connection

FOLDER = "resolve"


class ConflictState(StrEnum):
    """The state of the merge of the base branch into the change set."""

    NONE = "none"
    """The base branch merges without a conflict: there is nothing to resolve."""
    OPEN = "open"
    """A person must resolve files in `path`, and commit the merge there."""
    RESOLVED = "resolved"
    """The merge is committed; the change set adopts it now."""
    ELSEWHERE = "elsewhere"
    """The commits are on another host."""


class Resolution(FrozenModel):
    """A conflict of a change set with its base branch."""

    plan: str
    repo: str
    state: ConflictState
    host: str
    path: str = ""
    """The worktree where it is resolved."""
    branch: str
    """The branch of that worktree."""
    base: str = ""
    """The commit of the base branch that has to be merged."""
    files: tuple[str, ...] = ()
    """Files with a conflict."""
    run: str = ""
    """The run whose worktree it is; empty for a worktree of the change set's own branch."""
    live: bool = False
    """True if that run waits for the merge and continues by itself."""
    taken_up: str = ""
    """The run that continues with the merge, or the adopted commit."""
    next: str = ""
    """The next command."""


def find_conflict(
    connection: Connection, change: RepoChange, plan: str, repo: Repo, checkout: Path | None, state: Path
) -> Resolution:
    """Return the place and the state of a conflict. Changes nothing. `state`: the folder of
    worktrees on this machine. Raises GitRefused where git cannot tell.
    """
    run, live = _waiting_run(connection, change, plan)
    host = (connection.redis.hget(connection.keys.run(run).meta, f"{HOST}{repo.name}") if run else "") or (
        change.host
    )
    found = Resolution(
        plan=plan, repo=repo.name, state=ConflictState.ELSEWHERE, host=host, branch=change.branch
    )
    if checkout is None or not is_folder(checkout) or host not in ("", connection.settings.this_host):
        where = host or "the machine that has the commits"
        return found.model_copy(update={"next": f"run on {where}: coord plan resolve {plan} {repo.name}"})
    kept = below(state, "worktrees", run, repo.name) if run else None
    if kept is not None and (base := _left_to_a_person(state, run, repo.name)) and (kept / ".git").exists():
        of_run = {
            "branch": branch_of_run(connection.redis, connection.keys, run),
            "run": run,
            "live": live,
            "base": base,
        }
        return _looked_at(found.model_copy(update=of_run), kept)
    base = base_tip(checkout, repo.branch, remote=bool(repo.url))
    if not base:
        hint = f"create it, or correct `branch` of {repo.name} in the file"
        raise GitRefused(f"{checkout} has no branch {repo.branch}", hint)
    found = found.model_copy(update={"base": base})
    own = state / FOLDER / last_part(change.branch) / repo.name
    if (own / ".git").exists():
        return _looked_at(found, own)
    files = merge_trees(checkout, change.tip, found.base).files
    if not files:
        return found.model_copy(update={"state": ConflictState.NONE, "next": f"coord land {plan}"})
    return found.model_copy(update={"state": ConflictState.OPEN, "path": str(own), "files": files})


def open_worktree(found: Resolution, change: RepoChange, checkout: Path) -> None:
    """Make the worktree of the change set's branch, with the merge begun, unless it is there.

    Raises GitRefused.
    """
    path = Path(found.path)
    if found.run or (path / ".git").exists():
        return
    ref = f"refs/heads/{change.branch}"
    head = commit_of(checkout, ref)
    if head and not contains(checkout, change.tip, head):
        raise GitRefused(
            f"{change.branch} of {change.repo} lacks commits of the change set",
            f"adopt it as it is: coord plan adopt {found.plan} {change.repo} {change.branch}",
        )
    make_private(path.parent)
    where = [str(path), change.branch] if head else ["-b", change.branch, str(path), change.tip]
    ask_git(checkout, "worktree", "add", "--quiet", *where)
    if not (path / ".git").exists():
        raise GitRefused(
            f"git made no worktree of {change.branch} in {path}",
            f"see why: git -C {quoted(checkout)} worktree add {quoted(path, change.branch)}",
        )
    ask_git(path, "merge", "--no-commit", found.base)


def remove_worktree(found: Resolution, checkout: Path) -> None:
    """Remove the worktree that `open_worktree` has made; its commits are on the branch."""
    ask_git(checkout, "worktree", "remove", found.path)


def _looked_at(found: Resolution, path: Path) -> Resolution:
    """Return the state of a worktree."""
    head = commit_of(path, "HEAD")
    merging = bool(commit_of(path, "MERGE_HEAD"))
    listing = ask_git(path, "diff", "--name-only", "--diff-filter=U", "-z")
    files = tuple(filter(None, listing.split("\0")))
    dirty = ask_git(path, "status", "--porcelain", "--untracked-files=no")
    if contains(path, found.base, head) and not merging and not dirty:
        return found.model_copy(update={"state": ConflictState.RESOLVED, "path": str(path)})
    commit = f"git -C {quoted(path)} " + ("commit" if merging else f"merge {found.base}")
    return found.model_copy(
        update={
            "state": ConflictState.OPEN,
            "path": str(path),
            "files": files or merge_trees(path, head, found.base).files,
            "next": f"{commit}; then: coord plan resolve {found.plan} {found.repo}",
        }
    )


def _waiting_run(connection: Connection, change: RepoChange, plan: str) -> tuple[str, bool]:
    """Return the run that may have left a merge to a person, and whether it is live: the one that writes the
    change set, or the newest of the plan if that did not succeed.
    """
    if change.writer and change.writer in connection.store.live_runs():
        return change.writer, True
    run, status = newest_of_each(connection.redis, connection.keys, {plan}).get(plan, ("", ""))
    return (run, False) if status in (RunStatus.FAILED, RunStatus.CANCELLED) else ("", False)


def _left_to_a_person(state: Path, run: str, repo: str) -> str:
    """Return the commit of the base branch that a run could not merge, as its worker recorded it."""
    file = below(state, "workspaces", run, repo, "conflict")
    words = file.read_text().split() if file.is_file() else []
    return words[1] if len(words) == 2 and is_commit(words[1]) else ""
