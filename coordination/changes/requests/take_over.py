"""Adopt a pull request that a person or an agent has opened: its branch becomes the tip of a change set.

The branch at the forge stays its own: coord pushes to it from then on, and only adds commits. The branch of
the change set in the checkout is `coord/<plan>`, as for any other.
"""

from __future__ import annotations

from pathlib import Path

from coordination.changes.adoption import Adoption, find_branch
from coordination.changes.requests.access import ForgeAccess
from coordination.changes.requests.push import fetch_branches
from coordination.changes.requests.records import now
from coordination.changes.requests.rules import checkout_of, request_name
from coordination.environment import actor
from coordination.errors import Blocked, Conflict
from coordination.forges.forge import Forge
from coordination.forges.locate import locate
from coordination.forges.models import PullRequest
from coordination.forges.reading import is_over
from coordination.git import commit_of, seen_ref
from coordination.models import Repo
from coordination.runs.change_sets.records import ChangeSet, RepoChange, RequestRef, SeenRequest

FETCHED = "refs/coord/requests"


def find_request(
    plan: str,
    repo: Repo,
    place: Path | None,
    number: int,
    known: ChangeSet | None,
    access: ForgeAccess,
    host: str,
) -> Adoption:
    """Fetch the branch of a request, and return its adoption.

    Raises ForgeError; CLOSED for one that is over; Blocked for one of a fork, or to another base branch;
    Conflict where its head moves meanwhile; NotFound, GitRefused as `find_branch` does.
    """
    address = locate(repo)
    checkout = checkout_of(repo, place)
    forge = access.forge(repo.name, address)
    request = forge.get(number)
    _refuse(request, forge, repo)
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
    with access.target(repo, change, checkout) as target:
        fetch_branches(target, {request.head: fetched, repo.branch: seen_ref(repo.branch)})
    if commit_of(checkout, fetched) != request.head_sha:
        raise Conflict(f"{request.url} has got another commit meanwhile", "look at it, and try again")
    found = find_branch(plan, repo, checkout, request.head, known, host, ref=fetched)
    other = before.request if before and before.request and before.request.number != number else None
    return found.model_copy(update={"request": ref, "request_before": other.url if other else ""})


def _refuse(request: PullRequest, forge: Forge, repo: Repo) -> None:
    if not request.is_open:
        raise is_over(request)
    project = forge.repository().project
    if request.head_project.casefold() != project.casefold():
        raise Blocked(
            f"{request.url} comes from {request.head_project or 'a repository that is gone'}, where coord "
            "does not push",
            f"push its branch to {project}, open a request of that, and adopt it",
        )
    if request.base != repo.branch:
        raise Blocked(
            f"{request.url} is to be merged into {request.base}, and {repo.name} lands on {repo.branch}",
            "change its base branch at the forge; or `branch` of the repository in the file",
        )
    if request.head == repo.branch:
        raise Blocked(f"{request.url} proposes the base branch itself", "name another request")
