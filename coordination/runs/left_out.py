"""What lies in the checkouts of this machine and is no part of a run, which begins at the tip of each repository's `branch`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from coordination.git import ask_git
from coordination.models import Repo, Todo, Workspace
from coordination.text import counted

AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Of one repository."""

    repo: str
    uncommitted: int
    """Files with changes that are in no commit, untracked ones included."""
    branch: str
    """What is checked out; empty for a detached HEAD."""
    commits: int
    """Of it that `base` does not have."""
    base: str

    def __str__(self) -> str:
        changes = f"{counted(self.uncommitted, 'file')} with uncommitted changes" if self.uncommitted else ""
        commits = f"{counted(self.commits, 'commit')} of {self.branch or 'a detached HEAD'}" if self.commits else ""
        words = " and ".join(filter(None, (changes, commits)))
        return f"{self.repo}: {words} not part of the run, which begins at {self.base}"


def left_out(todos: Iterable[Todo], places: Iterable[tuple[Repo, Path | None]]) -> tuple[LeftOut, ...]:
    """Return what these todos will not see; `places`: each repository with its checkout, None where it has none here.

    Checkouts are only read. Raises GitRefused when there is no git.
    """
    concerned = {todo.repo for todo in todos if todo.workspace is Workspace.WORKTREE}
    here = [(repo, path) for repo, path in places if repo.name in concerned and path and (path / ".git").exists()]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return tuple(found for found in pool.map(lambda place: _left_out(*place), here) if found)


def _left_out(repo: Repo, path: Path) -> LeftOut | None:
    told = list(_entries(ask_git(path, "status", "--porcelain=v2", "--branch", "-z", "--no-ahead-behind")))
    facts = dict(line[2:].partition(" ")[::2] for line in told if line.startswith("# "))
    branch = facts.get("branch.head", "").replace("(detached)", "")
    uncommitted = sum(not line.startswith("# ") for line in told)
    ahead = "" if branch == repo.branch else ask_git(path, "rev-list", "--count", f"refs/heads/{repo.branch}..HEAD")
    commits = int(ahead or 0)
    if not uncommitted and not commits:
        return None
    return LeftOut(repo=repo.name, uncommitted=uncommitted, branch=branch, commits=commits, base=repo.branch)


def _entries(status: str) -> Iterator[str]:
    """A renamed file takes two fields, of which the second is its old name."""
    fields = iter(status.split("\0"))
    for field in fields:
        if field.startswith("2 "):
            next(fields, None)
        if field:
            yield field
