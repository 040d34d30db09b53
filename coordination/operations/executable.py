"""Reasons why plans of a valid file, or todos of a plan, cannot be executed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from coordination.backend.address import is_open_to_readers
from coordination.ecosystem.document import Document
from coordination.errors import GitRefused, PlanRefused, Problem
from coordination.files import is_there, real_path, why_closed
from coordination.git import (
    absent_hooks,
    ask_git,
    branch_to_write,
    broken_settings,
    fetched_without,
    history_exceeds,
    known_default_branch,
    why_unusable,
)
from coordination.models import OPEN_TODO, PlanStatus, Repo, Workspace
from coordination.planner.graph import build
from coordination.runs.submission.agents import refuse_unfit_agents
from coordination.settings import Settings
from coordination.text import quoted

NOT_SWEPT = (PlanStatus.CANCELLED, PlanStatus.ON_HOLD)


@dataclass(frozen=True, kw_only=True)
class Obstacles:
    """Reasons why plans cannot be executed."""

    problems: tuple[Problem, ...]
    refused_plans: tuple[str, ...]
    """Ids of plans that a sweep would refuse."""


def judge_executable(document: Document, settings: Settings) -> Obstacles:
    """Check the file and the repositories on this machine, without starting anything or querying Redis."""
    plans = tuple(_refused_plans(document, settings))
    problems = (*plans, *_repositories(document), *_address(document, settings))
    return Obstacles(problems=problems, refused_plans=tuple(plan.where for plan in plans))


def _refused_plans(document: Document, settings: Settings) -> Iterator[Problem]:
    """Yield the reason why a sweep of each plan would be refused: cycle, unknown blocker, undeclared
    repository, no agent.
    """
    for plan in document.ecosystem.coordination.plans:
        if plan.status in NOT_SWEPT:
            continue
        try:
            refuse_unfit_agents(build(document.ecosystem, plan.id).todos.values(), settings, plan)
        except PlanRefused as refused:
            yield _problem(document, plan.id, refused.message.removeprefix(f"{plan.id} "))


def _repositories(document: Document) -> Iterator[Problem]:
    """Yield local folders that cannot be used. A missing one is accepted, because it may be on another
    machine.
    """
    named: dict[Path, str] = {}
    for repo in document.ecosystem.repos:
        path = document.repo_path(repo)
        if path is None:
            continue
        if why := why_closed(path):
            yield _problem(document, repo.name, why)
        if why or not is_there(path):
            continue
        other = named.setdefault(real_path(path), repo.name)
        if other != repo.name:
            message = f"{path} is also the folder of {other}: give each repository its own `path`"
            yield _problem(document, repo.name, message)
        if works_in_place(document, repo):
            continue
        try:
            for message in _obstacles_of_git(repo, path):
                yield _problem(document, repo.name, message)
        except GitRefused as error:
            yield _problem(document, "git", error.message)
            return


def _obstacles_of_git(repo: Repo, path: Path) -> Iterator[str]:
    for why, remedy in broken_settings(path):
        yield f"{why}: {remedy}"
    if repo.prepare is None and (hooks := absent_hooks(path, repo.branch)):
        yield _why_no_hooks(hooks)
    if not ask_git(path, "rev-parse", "--git-dir"):
        yield _why_no_repository(path)
    elif not ask_git(path, "rev-parse", "--verify", "--quiet", f"refs/heads/{repo.branch}^{{commit}}"):
        yield why_no_start(path, repo)
    elif repo.url and fetched_without(path, repo.branch):
        yield f"its remote has no branch {repo.branch}, as of the last fetch in {path}{_renamed(path, repo)}"


def _why_no_hooks(named: str) -> str:
    return (
        f"no git hooks run on commits of its todos: core.hooksPath names {named}, which worktrees lack; "
        "make it with `prepare` of the repository"
    )


def broken_checkouts(document: Document) -> Iterator[tuple[str, str]]:
    """Yield the broken settings of the checkouts on this machine, each with its remedy."""
    for repo in document.ecosystem.repos:
        if path := document.repo_path(repo):
            with suppress(GitRefused):  # git is not installed: that is a finding of its own
                yield from broken_settings(path)


def _why_no_repository(path: Path) -> str:
    if why_unusable(path):
        return f"{path} is not a git repository, so no worktree can be created from it"
    return (
        f"git does not accept {path}, so no worktree can be created from it; "
        f"see why: git -C {quoted(path)} status"
    )


def why_no_start(path: Path, repo: Repo) -> str:
    """Return the reason why no run can start from a base branch that the checkout lacks."""
    if ask_git(path, "for-each-ref", "--count=1", "refs/heads"):
        return f"{path} has no branch {repo.branch!r} from which runs could start{_renamed(path, repo)}"
    first = f'git -C {quoted(path)} commit --allow-empty -m "first commit"'
    return f"{path} has no commit yet, so no run can start from it; make the first one: {first}"


def _renamed(path: Path, repo: Repo) -> str:
    """Return the default branch of the remote, and the line to change, if the file has another branch."""
    default = known_default_branch(path)
    if not default or default == repo.branch:
        return ""
    return f"; the default branch of its remote is {default}: {branch_to_write(repo.name, default)}"


def works_in_place(document: Document, repo: Repo) -> bool:
    """Return whether all open todos of a repository work in its folder, which need not be one of git then."""
    todos = [
        t for t in document.ecosystem.coordination.todos if t.repo == repo.name and t.status in OPEN_TODO
    ]
    kinds = {todo.working_in(repo).workspace for todo in todos} or {repo.workspace}
    return kinds == {Workspace.IN_PLACE}


def _address(document: Document, settings: Settings) -> Iterator[Problem]:
    if settings.redis_url and is_open_to_readers(settings.redis_url):
        message = "redis:// to another host: its password and all commands can be intercepted; use rediss://"
        yield _problem(document, "redis_url", message)


def _problem(document: Document, where: str, message: str) -> Problem:
    return Problem(file=str(document.path), line=0, where=where, message=message)


def not_transferable(document: Document, settings: Settings, repos: Collection[str]) -> tuple[str, ...]:
    """Return the repositories whose history cannot be transferred to other hosts: too large for Redis, and
    without a `url`.

    Only checkouts on this machine are examined. If Redis is a unix socket, there is only one host.
    """
    if not settings.redis_url or settings.redis_url.startswith("unix:"):
        return ()
    limit = settings.bundle_limit_bytes
    asked = [repo for repo in document.ecosystem.repos if repo.name in repos and not repo.url]
    here = [(repo, path) for repo in asked if (path := document.repo_path(repo)) is not None]
    return tuple(repo.name for repo, path in here if history_exceeds(path, repo.branch, limit))
