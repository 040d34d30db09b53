"""Read pull requests as their forges have them now, close them, and adopt a request of somebody else.

If a forge cannot be asked, the row of the request has the error instead of its state and checks. An adopted
request keeps its branch at the forge: coord pushes to that branch and only adds commits. In the checkout the
branch of the change set has coord's name for it, as any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from coordination.changes.adoption import Adoption, FetchedRequest, find_branch
from coordination.changes.requests.access import ForgeAccess
from coordination.changes.requests.proposal import checkout_of, request_name
from coordination.changes.requests.push import fetch_branches, pushed_ref
from coordination.changes.requests.records import RequestView, now
from coordination.environment import actor
from coordination.errors import Blocked, Conflict, CoordinationError, NotFound
from coordination.files import is_folder
from coordination.forges.errors import ForgeError, ForgeProblem
from coordination.forges.forge import Forge
from coordination.forges.locate import locate
from coordination.forges.models import CheckState, PullRequest
from coordination.forges.reading import already_closed
from coordination.git import commit_of, contains, has_commit, seen_ref
from coordination.landing.readiness import without_own
from coordination.models import Repo
from coordination.runs.change_sets.records import ChangeSet, RepoChange, RequestRef, SeenRequest

FETCHED = "refs/coord/requests"


def with_requests(sets: Iterable[ChangeSet]) -> list[tuple[str, RepoChange]]:
    """Return the plan and the change of each repository that has a request."""
    return [
        (one.id, one.repos[name])
        for one in sorted(sets, key=lambda one: one.id)
        for name in sorted(one.repos)
        if one.repos[name].request
    ]


def read_requests(
    changes: Iterable[tuple[str, RepoChange]],
    repos: Mapping[str, Repo],
    places: Mapping[str, Path | None],
    access: ForgeAccess,
) -> list[RequestView]:
    """Return the requests with their checks and reviews, several at once. `places`: the checkouts here."""
    with access.pool() as pool:
        return list(
            pool.map(lambda one: _read(one[0], one[1], repos, places.get(one[1].repo), access), list(changes))
        )


def _read(
    plan: str, change: RepoChange, repos: Mapping[str, Repo], place: Path | None, access: ForgeAccess
) -> RequestView:
    ref = change.request
    assert ref is not None
    view = _view(plan, change.repo, ref)
    try:
        forge = access.forge(change.repo, locate(_declared(change.repo, repos)))
        request = forge.get(ref.number)
        others = request.is_open and is_of_others(request.head_sha, change, place, access.branch_prefix)
        facts = {
            "url": request.url,
            "state": request.state,
            "title": request.title,
            "base": request.base,
            "head": request.head_sha,
            "outdated": request.is_open and request.head_sha != change.tip and not others,
            "has_others": others,
            "mergeable": request.mergeable,
            "blocked": request.blocked,
            "author": request.author,
            "reviewers": (*request.reviewers, *request.teams),
        }
        if request.is_open:
            checks = without_own(forge.checks(request.head_sha))
            red = tuple(check.name for check in checks if check.state is CheckState.FAILURE)
            facts |= {"checks": checks, "failing": red, "reviews": forge.reviews(ref.number)}
    except CoordinationError as error:
        return view.model_copy(update={"error": str(error), "code": error.exit_code})
    return view.model_copy(update=facts)


def is_of_others(head: str, change: RepoChange, place: Path | None, prefix: str) -> bool:
    """Return whether somebody else made the head of a request: neither coord has pushed it, as its record or
    the checkout knows, nor has the change set its commit.
    """
    recorded = change.request.head if change.request else ""
    if head in (change.tip, recorded):
        return False
    if place is None or not is_folder(place):
        return True
    pushed = commit_of(place, pushed_ref(change.branch_at_forge(prefix)))
    return head != pushed and not (has_commit(place, head) and contains(place, head, change.tip))


def close_request(
    plan: str, change: RepoChange, repos: Mapping[str, Repo], access: ForgeAccess
) -> RequestView:
    """Close the request of a repository; a merged one stays, and its state says so."""
    ref = change.request
    assert ref is not None
    view = _view(plan, change.repo, ref)
    try:
        forge = access.forge(change.repo, locate(_declared(change.repo, repos)))
        try:
            request = forge.close(ref.number)
        except ForgeError as error:
            if error.problem is not ForgeProblem.CLOSED:
                raise
            request = forge.get(ref.number)
    except CoordinationError as error:
        return view.model_copy(update={"error": str(error), "code": error.exit_code})
    facts = {"url": request.url, "state": request.state, "title": request.title, "head": request.head_sha}
    return view.model_copy(update=facts)


def _view(plan: str, repo: str, ref: RequestRef) -> RequestView:
    return RequestView(plan=plan, repo=repo, number=ref.number, url=ref.url, name=ref.name, by=ref.by)


def _declared(name: str, repos: Mapping[str, Repo]) -> Repo:
    if name not in repos:
        raise NotFound(f"the file no longer declares {name}", "declare it, with its url")
    return repos[name]


def find_request(
    plan: str,
    repo: Repo,
    place: Path | None,
    number: int,
    known: ChangeSet | None,
    access: ForgeAccess,
    host: str,
    *,
    committed: Mapping[str, str],
    replace: bool = False,
) -> Adoption:
    """Fetch the branch of a request, and return its adoption, as `find_branch` does.

    Raises ForgeError, CLOSED for a closed or merged one; Blocked for one of a fork, or to another base
    branch; Conflict if its head moves in the meantime; NotFound, GitRefused as `find_branch` does.
    """
    address = locate(repo)
    checkout = checkout_of(repo, place)
    forge = access.forge(repo.name, address)
    request = forge.get(number)
    _refuse_unfit(request, forge, repo)
    before = known.open.get(repo.name) if known else None
    seen = SeenRequest(state=request.state, head=request.head_sha, at=now())
    ref = RequestRef(
        number=number,
        url=request.url,
        name=request_name(address, number),
        head=request.head_sha,
        by=actor(),
        at=now(),
        branch=request.head,
        seen=seen,
    )
    fetched = f"{FETCHED}/{number}"
    change = RepoChange(repo=repo.name, branch="", tip=request.head_sha, run="", request=ref)
    with access.target(plan, repo, change, checkout) as target:
        fetch_branches(target, {request.head: fetched, repo.branch: seen_ref(repo.branch)})
    if commit_of(checkout, fetched) != request.head_sha:
        raise Conflict(f"{request.url} has another head by now", "look at it, and try again")
    found = find_branch(
        *(plan, repo, checkout, request.head, known, host),
        committed=committed,
        replace=replace,
        request=FetchedRequest(number=number, ref=fetched),
    )
    other = before.request if before and before.request and before.request.number != number else None
    return found.model_copy(update={"request": ref, "request_before": other.url if other else ""})


def _refuse_unfit(request: PullRequest, forge: Forge, repo: Repo) -> None:
    if not request.is_open:
        raise already_closed(request)
    project = forge.repository().project
    if request.head_project.casefold() != project.casefold():
        raise Blocked(
            f"{request.url} comes from {request.head_project or 'a repository that is gone'}, where coord "
            "does not push",
            f"push its branch to {project}, open a request of that branch, and adopt it",
        )
    if request.base != repo.branch:
        raise Blocked(
            f"{request.url} is to be merged into {request.base}, and {repo.name} lands on {repo.branch}",
            "change its base branch at the forge; or `branch` of the repository in the file",
        )
    if request.head == repo.branch:
        raise Blocked(f"{request.url} has the base branch as its head", "name another request")
