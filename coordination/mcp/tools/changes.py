"""Tools on change sets: what plans have made and not landed yet."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coordination.api import Adoption, ChangeView, RepoDiff, Resolution
from coordination.mcp.answers import Page, page
from coordination.mcp.declaration import Items, Limit, Offset, PlanName, RepoName, changes, reads
from coordination.mcp.session import Session

Some = Annotated[Items, Field(description="Only these repositories (default: all of the change set).")]


@reads("List change sets")
def coord_list_changes(
    session: Session,
    plan: Annotated[str | None, Field(description="Only the change set of this plan.")] = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> Page[ChangeView]:
    """Return the work of plans that sweeps have left on branches, a record per repository: branch, base, tip,
    size, todos, and whether it has landed or what it waits for. coord_land_plan brings it into the base
    branches.
    """
    return page(session.coord.changes.list(plan), limit, offset)


@reads("Show the difference of a change set")
def coord_get_diff(
    session: Session,
    plan: PlanName,
    repos: Some = None,
    stat: Annotated[bool, Field(description="Only the files with their number of lines.")] = False,
    limit: Annotated[
        int, Field(ge=1, le=1_000_000, description="Most characters of each `diff`; `cut` tells.")
    ] = 20_000,
) -> Page[RepoDiff]:
    """Return the difference between a plan's change set and its base, a record per repository. git is asked
    on the machine of this server, which must have the commits.
    """
    found = session.coord.changes.diff(plan, repos or (), stat=stat)
    return page([one.shortened(limit) for one in found], len(found) or 1, 0)


@changes("Adopt a branch")
def coord_adopt_branch(
    session: Session,
    plan: PlanName,
    repo: Annotated[str | None, Field(description="The repository of the branch.")] = None,
    branch: Annotated[str | None, Field(description="A branch of its checkout on this machine.")] = None,
) -> Page[Adoption]:
    """Take a branch as the tip of a plan's change set, in place of what the change set had. Without `repo`
    and `branch`: build what Redis has lost from the commits of this machine. It states that the branch has
    the work of the plan's todos: call it only if a person told you to.
    """
    found = session.coord.changes.adopt(plan, repo, branch)
    return page(found, len(found) or 1, 0)


@changes("Resolve a conflict")
def coord_resolve_conflict(session: Session, plan: PlanName, repo: RepoName) -> Resolution:
    """Return the worktree on this machine in which the conflict of a change set with its base branch is
    resolved, with the files. When the merge is committed there, call it again: then the work goes on.
    """
    return session.coord.changes.resolve(plan, repo)
