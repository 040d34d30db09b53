"""Issues: what is wrong or wanted, across repositories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from coordination.mcp.answers import EditedIssue, Page, ShownIssue, edited, given, page, shown
from coordination.mcp.declaring import (
    AnyOf,
    BlockedBy,
    Blocking,
    Date,
    IssueName,
    Items,
    Labels,
    Limit,
    Offset,
    RepoName,
    Repos,
    Severity,
    adds,
    changes,
    reads,
)
from coordination.mcp.session import Session
from coordination.models import Issue, IssueStatus, Level
from coordination.tracker.records import BlockingIssue


@reads("List issues")
def coord_list_issues(
    office: Session,
    status: AnyOf[IssueStatus] = (),
    priority: AnyOf[Level] = (),
    repo: AnyOf[str] = (),
    assignee: AnyOf[str] = (),
    label: AnyOf[str] = (),
    limit: Limit = 100,
    offset: Offset = 0,
) -> Page[Issue]:
    """Issues that fit all filters, most urgent first."""
    found = office.coord.manager.list_issues(
        status or None, priority or None, repo or None, assignee or None, label or None
    )
    return page(found, limit, offset)


@reads("Show an issue")
def coord_get_issue(office: Session, issue: IssueName) -> ShownIssue:
    """One issue with everything that it waits for and holds up."""
    manager = office.coord.manager
    return shown(ShownIssue, manager.get_issue(issue), manager.chains_of(issue))


@adds("Create an issue")
def coord_create_issue(
    office: Session,
    title: str,
    description: str | None = None,
    repos: Repos = None,
    priority: Level | None = None,
    severity: Severity = None,
    status: IssueStatus | None = None,
    assignee: str | None = None,
    target: Date = None,
    labels: Labels = None,
    dependencies: BlockedBy = None,
    blocking: Blocking = None,
) -> EditedIssue:
    """Write a new issue into the ecosystem file; it gets the next free id."""
    return edited(EditedIssue, office.coord.manager.create_issue(**given(locals())))


@changes("Change an issue")
def coord_update_issue(
    office: Session,
    issue: IssueName,
    title: str | None = None,
    description: str | None = None,
    repos: Repos = None,
    priority: Level | None = None,
    severity: Severity = None,
    status: IssueStatus | None = None,
    assignee: str | None = None,
    target: Date = None,
    labels: Labels = None,
    dependencies: BlockedBy = None,
    blocking: Blocking = None,
    clear: Annotated[Items, Field(description="Names of fields to empty.")] = None,
) -> EditedIssue:
    """Change the fields of an issue that are given; a list replaces the list that was there."""
    fields = {**dict.fromkeys(clear or ()), **given(locals(), "issue", "clear")}
    return edited(EditedIssue, office.coord.manager.update_issue(issue, fields))


@adds("Close an issue")
def coord_close_issue(office: Session, issue: IssueName) -> EditedIssue:
    """Close an issue that is dealt with; `ready` names what may begin now that nothing else holds it up."""
    return edited(EditedIssue, office.coord.manager.close_issue(issue))


@reads("What holds a repository up")
def coord_get_blocking_issues(office: Session, repo: RepoName) -> Sequence[BlockingIssue]:
    """Open issues that hold up open work of the repository, directly or at the end of a chain, and what they hold up."""
    return office.coord.manager.get_blocking_issues(repo)
