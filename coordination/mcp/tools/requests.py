"""Tools on pull requests of change sets."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coordination.api import RequestOptions, RequestResult, RequestView
from coordination.mcp.answers import Page, page
from coordination.mcp.declaration import Items, Limit, Offset, PlanName, executes, looks_outside, undoes
from coordination.mcp.session import Session

Names = Annotated[Items, Field(description="Names at the forge; they are added.")]
Some = Annotated[Items, Field(description="Only these repositories (default: all that have not landed).")]


@executes("Open pull requests")
def coord_create_requests(
    session: Session,
    plan: PlanName,
    repos: Some = None,
    draft: Annotated[
        bool | None,
        Field(description="true: open them as drafts, make open ones drafts; false: mark drafts as ready."),
    ] = None,
    reviewers: Names = None,
    teams: Names = None,
    labels: Names = None,
    assignees: Names = None,
    body: Annotated[
        str | None, Field(description="Text above coord's section (default: as it is).", max_length=60_000)
    ] = None,
    dry_run: Annotated[bool, Field(description="Look only; change nothing.")] = False,
) -> Page[RequestResult]:
    """Push the branches of a plan's change set and open a pull request for each repository, or bring those
    that are open up to date. People are told by the forge: call it only if a person told you to.
    """
    options = RequestOptions(
        repos=tuple(repos or ()),
        draft=draft is True,
        ready=draft is False,
        reviewers=tuple(reviewers or ()),
        teams=tuple(teams or ()),
        labels=tuple(labels or ()),
        assignees=tuple(assignees or ()),
        body=body,
    )
    done = session.coord.requests.create(plan, options, dry_run=dry_run)
    return page(done, len(done) or 1, 0)


@looks_outside("List pull requests")
def coord_list_requests(
    session: Session,
    plan: Annotated[str | None, Field(description="Only those of this plan.")] = None,
    failing: Annotated[
        bool, Field(description="Only those with a red check, wanted changes, a conflict or an error.")
    ] = False,
    mine: Annotated[bool, Field(description="Only those that this user had coord open.")] = False,
    limit: Limit = 100,
    offset: Offset = 0,
) -> Page[RequestView]:
    """Return the pull requests of plans as their forges have them now: state, checks, reviews. Where a forge
    could not be asked, `state` is null and `error` says why: nothing is known then.
    """
    return page(session.coord.requests.list(plan, failing=failing, mine=mine), limit, offset)


@undoes("Close pull requests")
def coord_close_requests(session: Session, plan: PlanName) -> Page[RequestView]:
    """Close the open pull requests of a plan without a merge; branches and change set stay. Call it only if a
    person told you to.
    """
    found = session.coord.requests.close(plan)
    return page(found, len(found) or 1, 0)
