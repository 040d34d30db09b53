"""The ways of landing: the default way of a repository, and what each way refuses."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from coordination.errors import PlanRefused
from coordination.models import (
    Atomic,
    Ecosystem,
    LandRules,
    Method,
    Plan,
    Repo,
    RequestFacts,
    Todo,
    Via,
)
from coordination.runs.change_sets.records import RepoChange
from coordination.runs.run_kinds import LAND, REVERT
from coordination.text import listed


def usual_way(repo: Repo, forges: Collection[str]) -> Via:
    """Return the default way of a repository, if neither the plan nor an option names one.

    `forges`: the repositories for whose forge this machine has a token.
    """
    if repo.name in forges:
        return Via.PR
    return Via.PUSH if repo.url else Via.LOCAL


def refuse_way(repo: str, via: Via, *, url: str | None, hosts: Collection[str]) -> None:
    """Raise PlanRefused if the repository cannot land in this way."""
    if via is not Via.LOCAL and not url:
        raise PlanRefused(
            f"{repo} has no url to push to", f"add `url` to {repo} in the file; or land it with --via local"
        )
    if via is Via.LOCAL and len(set(hosts)) > 1:
        raise PlanRefused(
            f"{repo} has checkouts on {listed(sorted(set(hosts)))}, and a local landing reaches only one",
            f"add `url` to {repo} in the file, and land it with --via push",
        )


def refuse_rules(
    name: str, method: Method, rules: LandRules, ways: Collection[Via], *, when_ready: bool
) -> None:
    """Raise PlanRefused for a method or a rule that a way of the landing does not support."""
    direct = sorted(way.value for way in ways if way is not Via.PR)
    if method is Method.FF and Via.PR in ways:
        raise PlanRefused(
            f"{name} cannot land by pull requests with the method ff: no forge has it",
            "take another one: --method merge, squash or rebase",
        )
    if method is Method.REBASE and direct:
        raise PlanRefused(
            f"{name} cannot land by {listed(direct)} with the method rebase: only pull requests have it",
            "take another one: --method merge, squash or ff",
        )
    if rules.approvals > 1 and direct:
        raise PlanRefused(
            f"land.approvals of {name} is {rules.approvals}, and a landing by {listed(direct)} has one gate",
            "write approvals: 1; or land it with --via pr",
        )
    if when_ready:
        refuse_unready(name, LAND, ways)
    if when_ready and rules.atomic is Atomic.REPO:
        raise PlanRefused(
            f"land.atomic of {name} is repo: its landing takes its locks before it looks at the requests, "
            "and must not keep them during reviews",
            "leave --when-ready out, and name the repositories that are ready: --repo REPO",
        )


def refuse_unready(name: str, operation: str, ways: Collection[Via]) -> None:
    """Raise PlanRefused for `--when-ready` where nothing is done by a pull request."""
    if ways and Via.PR not in ways:
        direct = listed(sorted({way.value for way in ways}))
        also = "" if operation == REVERT else "; or land it with --via pr"
        raise PlanRefused(
            f"{name} {operation}s by {direct}: there is no pull request that could become ready",
            f"leave --when-ready out{also}",
        )


def request_facts(
    ecosystem: Ecosystem,
    plan: Plan | None,
    todos: Sequence[Todo],
    change: RepoChange,
    *,
    after: tuple[str, ...],
    followers: tuple[str, ...],
) -> RequestFacts:
    """Return the facts of the plan for the text of a repository's pull request."""
    tasks = {todo.id: todo.task for todo in todos}
    return RequestFacts(
        title=plan.title if plan else todos[0].task,
        issues=issues_of(ecosystem, plan, todos),
        todos=tuple((todo, tasks.get(todo, "")) for todo in change.todos),
        after=after,
        followers=followers,
    )


def issues_of(
    ecosystem: Ecosystem, plan: Plan | None, todos: Collection[Todo]
) -> tuple[tuple[str, str], ...]:
    """Return id and title of the issues that wait for a plan or its todos."""
    names = {todo.id for todo in todos} | ({plan.id} if plan else set())
    blocked = {name for todo in todos for name in todo.blocking}
    return tuple(
        (issue.id, issue.title)
        for issue in ecosystem.coordination.issues
        if issue.id in blocked or names.intersection(issue.dependencies)
    )
