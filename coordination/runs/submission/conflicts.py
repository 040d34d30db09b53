"""Refuse todos that another run executes, and report local work that a run would not contain.

A run begins at the tip of each repository's `branch`, so uncommitted changes and unmerged commits in the
checkouts of this machine are no part of it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from coordination.errors import Conflict, NotFound, Unreadable
from coordination.git import ask_git
from coordination.models import Repo, Todo, Workspace
from coordination.planner.gates import MILESTONE_REPO
from coordination.runs.change_sets.store import plans_of
from coordination.runs.records import Descriptor, RunStatus, TodoState
from coordination.runs.store import RunStore
from coordination.runs.views.run_view import RunReader
from coordination.text import counted

logger = logging.getLogger(__name__)


def refuse_conflicts_of(store: RunStore, reader: RunReader, todos: Collection[str]) -> None:
    """Raise Conflict where a live run executes one of these todos."""
    for run_id in store.live_runs():
        try:
            run = reader.read(run_id, only=())
        except (NotFound, Unreadable) as error:  # such a run cannot continue, so it blocks no other
            logger.warning("skipped in the search for conflicting runs: %s", error.message)
            continue
        shared = next(_in_hand(store, run_id, run.status, list(todos)), None)
        if shared is not None:
            end = "" if run.status is RunStatus.ROLLING_BACK else f"; or end it: coord cancel {run_id}"
            raise Conflict(
                f"run {run_id} of {run.plan_id} is {run.status} and executes {shared}",
                f"follow it: coord watch {run_id}{end}",
            )


def refuse_runs_of(store: RunStore, plan_ids: Collection[str]) -> None:
    """Raise Conflict where a live run has one of these plan ids, or lands that plan with others: a change set
    is not written while it lands.

    Callers hold the start lock, so that no other run starts in between.
    """
    for run_id, plan in plans_of(store, store.live_runs()).items():
        kind = plan.id.partition(":")[0]
        if plan.id in plan_ids or any(f"{kind}:{name}" in plan_ids for name in plan.lands):
            what = f"run {run_id} of {plan.id} goes on"
            raise Conflict(what, f"wait for its end: coord watch {run_id}; or end it: coord cancel {run_id}")


def _in_hand(store: RunStore, run_id: str, status: RunStatus, todos: list[str]) -> Iterator[str]:
    """Yield the todos that the run has not finished; in a rollback, those that are not undone yet.

    A milestone never conflicts: each run asks for its own approval, and another plan may have one of the same
    name.
    """
    if not todos:
        return
    keys = store.keys.run(run_id)
    states, descriptors = store.redis.hmget(keys.state, todos), store.redis.hmget(keys.place, todos)
    for todo, state, descriptor in zip(todos, states, descriptors, strict=True):
        if state is None or Descriptor.parse(descriptor).repo == MILESTONE_REPO:
            continue
        if state != TodoState.COMPENSATED if status is RunStatus.ROLLING_BACK else not TodoState(state).ended:
            yield todo


AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Local work in one repository that the run would not contain."""

    repo: str
    uncommitted: int
    """Number of files with uncommitted changes, including untracked files."""
    branch: str
    """The checked-out branch; empty for a detached HEAD."""
    commits: int
    """Number of commits of HEAD that `base` does not have."""
    base: str

    def __str__(self) -> str:
        changes = f"{counted(self.uncommitted, 'file')} with uncommitted changes" if self.uncommitted else ""
        commits = (
            f"{counted(self.commits, 'commit')} of {self.branch or 'a detached HEAD'}" if self.commits else ""
        )
        words = " and ".join(filter(None, (changes, commits)))
        return f"{self.repo}: {words} not part of the run, which begins at {self.base}"


def left_out(todos: Iterable[Todo], places: Iterable[tuple[Repo, Path | None]]) -> tuple[LeftOut, ...]:
    """Return the local work that these todos will not see. `places`: each repository with its checkout, None
    without one here.

    Checkouts are only read. Raise GitRefused if git is not available.
    """
    concerned = {todo.repo for todo in todos if todo.workspace is Workspace.WORKTREE}
    here = [
        (repo, path) for repo, path in places if repo.name in concerned and path and (path / ".git").exists()
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return tuple(found for found in pool.map(lambda place: _left_out(*place), here) if found)


def _left_out(repo: Repo, path: Path) -> LeftOut | None:
    entries = list(_entries(ask_git(path, "status", "--porcelain=v2", "--branch", "-z", "--no-ahead-behind")))
    facts = dict(line[2:].partition(" ")[::2] for line in entries if line.startswith("# "))
    branch = facts.get("branch.head", "").replace("(detached)", "")
    uncommitted = sum(not line.startswith("# ") for line in entries)
    ahead = (
        ""
        if branch == repo.branch
        else ask_git(path, "rev-list", "--count", f"refs/heads/{repo.branch}..HEAD")
    )
    commits = int(ahead or 0)
    if not uncommitted and not commits:
        return None
    return LeftOut(repo=repo.name, uncommitted=uncommitted, branch=branch, commits=commits, base=repo.branch)


def _entries(status: str) -> Iterator[str]:
    """Yield one entry per file; a renamed file takes two fields, the second of which is its old name."""
    fields = iter(status.split("\0"))
    for field in fields:
        if field.startswith("2 "):
            next(fields, None)
        if field:
            yield field
