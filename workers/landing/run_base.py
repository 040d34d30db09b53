"""The base branch at which a run begins: where landing pushes it, at the remote."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from coordination.models import Repo
from coordination.text import counted
from workers.landing.records import BaseBranch, BaseTip
from workers.landing.remote import look, seen_ref
from workers.transfer.bundles import hidden
from workers.workspace.base_commit import RunBase
from workers.workspace.git import ask
from workers.workspace.repository import tip

SHOWN = 5


def base_at_remote(
    repo: Repo, checkout: Path, access: Callable[[], AbstractContextManager[dict[str, str]]]
) -> RunBase:
    """Return the base tip at the `url` of the repository, or the one that was seen there last, else that of
    the local branch. Lines say where it cannot be reached, and which local commits are left out.

    Raises GitRefused where there is none of them, GitInterrupted for passing trouble of this machine.
    """
    with access() as variables:
        at = BaseBranch(
            repo=repo.name, path=checkout, branch=repo.branch, url=repo.url or "", variables=variables
        )
        found = look(at)
    if isinstance(found, BaseTip):
        return RunBase(commit=found.commit, words=_left_out(at, found.commit))
    away = f"{repo.branch} of {repo.name} at {hidden(at.url)} cannot be read: {found.words}"
    if seen := _commit(at, seen_ref(at)):
        line = f"{away}; the run begins with what was last seen there, {seen[:12]}"
        return RunBase(commit=seen, words=(line, *_left_out(at, seen)))
    local = tip(repo.name, checkout, repo.branch)
    return RunBase(commit=local, words=(f"{away}; the run begins with the local branch, {local[:12]}",))


def _left_out(at: BaseBranch, base: str) -> tuple[str, ...]:
    if not (local := _commit(at, at.ref)):
        return ()
    commits = ask("log", "--format=%h %s", local, f"^{base}", cwd=at.path).stdout.splitlines()
    if not commits:
        return ()
    shown = "; ".join(commit[:80] for commit in commits[:SHOWN])
    what = f"{counted(len(commits), 'commit')} of the local {at.branch} that {hidden(at.url)} lacks"
    return (f"left out: {what}: {shown}; push them to have them in",)


def _commit(at: BaseBranch, ref: str) -> str:
    return ask("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", cwd=at.path).stdout.strip()
