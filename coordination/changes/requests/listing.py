"""Read the pull requests of change sets as their forges have them now; close them.

A forge that cannot be asked makes a row with the error, never one without checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from coordination.changes.requests.access import ForgeAccess
from coordination.changes.requests.records import RequestView
from coordination.errors import CoordinationError, NotFound
from coordination.forges.errors import ForgeError, ForgeProblem
from coordination.forges.locate import locate
from coordination.forges.models import CheckState
from coordination.models import Repo
from coordination.runs.change_sets.records import ChangeSet, RepoChange, RequestRef


def with_requests(sets: Iterable[ChangeSet]) -> list[tuple[str, RepoChange]]:
    """Return plan and change of each repository that has a request."""
    return [
        (one.id, one.repos[name])
        for one in sorted(sets, key=lambda one: one.id)
        for name in sorted(one.repos)
        if one.repos[name].request
    ]


def read_requests(
    changes: Iterable[tuple[str, RepoChange]], repos: Mapping[str, Repo], access: ForgeAccess
) -> list[RequestView]:
    """Return the requests with their checks and reviews, several at once."""
    with access.pool() as pool:
        return list(pool.map(lambda item: _read(item[0], item[1], repos, access), list(changes)))


def _read(plan: str, change: RepoChange, repos: Mapping[str, Repo], access: ForgeAccess) -> RequestView:
    ref = change.request
    assert ref is not None
    view = _view(plan, change.repo, ref)
    try:
        forge = access.forge(change.repo, locate(_declared(change.repo, repos)))
        request = forge.get(ref.number)
        facts = {
            "url": request.url,
            "state": request.state,
            "title": request.title,
            "base": request.base,
            "head": request.head_sha,
            "outdated": request.is_open and request.head_sha != change.tip,
            "mergeable": request.mergeable,
            "blocked": request.blocked,
            "author": request.author,
            "reviewers": (*request.reviewers, *request.teams),
        }
        if request.is_open:
            checks = forge.checks(request.head_sha)
            red = tuple(check.name for check in checks if check.state is CheckState.FAILURE)
            facts |= {"checks": checks, "failing": red, "reviews": forge.reviews(ref.number)}
    except CoordinationError as error:
        return view.model_copy(update={"error": str(error), "code": error.exit_code})
    return view.model_copy(update=facts)


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
