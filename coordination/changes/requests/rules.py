"""Decide which repositories of a change set get a pull request, and in which order."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from coordination.errors import Blocked, Conflict, NotFound, PlanRefused
from coordination.forges.locate import ForgeAddress, locate
from coordination.forges.models import CheckState, CommitStatus, ForgeType, RequestState
from coordination.git import has_commit
from coordination.landing.order import edges_between, in_order
from coordination.landing.readiness import DEPENDS
from coordination.landing.rules import plan_of
from coordination.landing.ways import issues_of
from coordination.models import Ecosystem, Repo
from coordination.runs.change_sets.records import ChangeSet, RepoChange
from coordination.text import listed

MOST_DESCRIBED = 3
"""Repositories that a status names: forges show some 140 characters of it."""


@dataclass(frozen=True, kw_only=True)
class RepoRequest:
    """The request of one repository that is to be opened or updated."""

    repo: Repo
    change: RepoChange
    checkout: Path
    address: ForgeAddress
    after: tuple[str, ...]
    """Repositories of the change set that land before this one."""


@dataclass(frozen=True, kw_only=True)
class PlannedRequests:
    plan: str
    title: str
    issues: tuple[tuple[str, str], ...]
    """Id and title of the issues that wait for the plan."""
    todos: Mapping[str, str]
    """Todo → its task."""
    change_set: ChangeSet
    repos: tuple[RepoRequest, ...]
    """In the order in which they land."""


def decide_requests(
    ecosystem: Ecosystem,
    change_set: ChangeSet | None,
    name: str,
    chosen: Collection[str],
    places: Mapping[str, Path | None],
    host: str,
) -> PlannedRequests:
    """Return the requests of a change set. `places`: the checkouts of this machine.

    Raises NotFound without a change set; Conflict while a run writes it; PlanRefused for a repository without
    a known forge; Blocked where its commits are on another host, or all of it has landed.
    """
    plan, todos = plan_of(ecosystem, name)
    if change_set is None:
        raise NotFound(f"{name} has no change set", f"make one: coord sweep {name}")
    if run := change_set.writer:
        raise Conflict(f"run {run} writes {name} now", f"wait for its end: coord watch {run}")
    if unknown := sorted(set(chosen) - change_set.repos.keys()):
        raise NotFound(f"{name} has no changes in {listed(unknown)}", f"see: coord changes {name}")
    wanted = [repo for repo in change_set.open if not chosen or repo in chosen]
    if not wanted:
        raise Blocked(f"nothing of {name} is left to propose: it has landed", f"see: coord changes {name}")
    edges = edges_between(ecosystem, todos, change_set.repos)
    declared = {repo.name: repo for repo in ecosystem.repos}
    found = []
    for repo in in_order(wanted, edges):
        if repo not in declared:
            what = f"{name} has changes in {repo}, which the file no longer declares"
            raise PlanRefused(what, f"declare it again; see: coord changes {name}")
        change = change_set.repos[repo]
        found.append(
            RepoRequest(
                repo=declared[repo],
                change=change,
                checkout=_checkout(declared[repo], change, places.get(repo), host),
                address=locate(declared[repo]),
                after=tuple(edges.get(repo, ())),
            )
        )
    return PlannedRequests(
        plan=name,
        title=plan.title if plan else todos[0].task,
        issues=issues_of(ecosystem, plan, todos),
        todos={todo.id: todo.task for todo in todos},
        change_set=change_set,
        repos=tuple(found),
    )


def depends_status(change_set: ChangeSet, after: Collection[str]) -> CommitStatus | None:
    """Return the status `coord/depends` of a request: pending while those before it have not merged. None
    where it depends on none.
    """
    if not after:
        return None
    waiting = [name for name in after if not _has_merged(change_set.repos.get(name))]
    if not waiting:
        return CommitStatus(context=DEPENDS, state=CheckState.SUCCESS, description="those before have merged")
    described = f"waits for {listed(waiting[:MOST_DESCRIBED])}"
    more = f" and {len(waiting) - MOST_DESCRIBED} more" if len(waiting) > MOST_DESCRIBED else ""
    return CommitStatus(context=DEPENDS, state=CheckState.PENDING, description=described + more)


def _has_merged(change: RepoChange | None) -> bool:
    if change is None or change.landed:
        return True
    ref = change.request
    return bool(ref and ref.seen and ref.seen.state is RequestState.MERGED and ref.head == change.tip)


def request_name(address: ForgeAddress, number: int) -> str:
    """Return the name of a request as other requests name it."""
    mark = "!" if address.type is ForgeType.GITLAB else "#"
    return f"{address.project}{mark}{number}"


def checkout_of(repo: Repo, place: Path | None) -> Path:
    """Return the checkout of a repository with a url. Raises PlanRefused, Blocked."""
    _refuse_without_url(repo)
    if place is None or not place.is_dir():
        raise Blocked(
            f"{repo.name} has no checkout on this machine", "clone it; or call it on a machine with one"
        )
    return place


def _checkout(repo: Repo, change: RepoChange, place: Path | None, host: str) -> Path:
    _refuse_without_url(repo)
    if place is None or not has_commit(place, change.tip):
        there = change.host if change.host and change.host != host else "another machine"
        raise Blocked(
            f"this machine does not have the commit {change.tip[:12]} of {repo.name}",
            f"call it on {there}, which has it; see: coord changes",
        )
    return place


def _refuse_without_url(repo: Repo) -> None:
    if not repo.url:
        raise PlanRefused(f"{repo.name} has no url to push to", f"add `url` to {repo.name} in the file")
