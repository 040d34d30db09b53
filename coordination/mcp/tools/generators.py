"""Tools that make plans and todos for many repositories."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coordination.api import GeneratedPlan
from coordination.mcp.answers import CutGeneratedPlan, cut
from coordination.mcp.declaration import Items, adds
from coordination.mcp.session import Session
from coordination.models import OnFailure, RepoOrder, presentable

SHOWN = 100
"""Limit of todos in an answer."""
SomeRepos = Annotated[Items, Field(description="Select these repositories.")]
Tags = Annotated[Items, Field(description="Select the repositories with one of these tags.")]
Roles = Annotated[Items, Field(description="Select the repositories with one of these roles.")]
AllRepos = Annotated[
    bool, Field(description="Select all repositories; then repos, tags and roles are empty.")
]
DryRun = Annotated[bool, Field(description="Return what would be created, and write nothing.")]
SweepIt = Annotated[bool, Field(description="Start a run of the plan as well; the answer has its run_id.")]


@adds("Plan a change of many repositories")
def coord_campaign(
    session: Session,
    title: str,
    repos: SomeRepos = None,
    tags: Tags = None,
    roles: Roles = None,
    all_repos: AllRepos = False,
    run: Annotated[str | None, Field(description="Change each repository by this command for sh.")] = None,
    prompt: Annotated[str | None, Field(description="Or change it by an agent with this prompt.")] = None,
    check: Annotated[
        str | None, Field(description="Check each change by this command, which must change no file.")
    ] = None,
    order: Annotated[
        RepoOrder,
        Field(description="deps: a change waits for the checks of the repositories that it depends on."),
    ] = RepoOrder.DEPS,
    on_failure: OnFailure = OnFailure.CONTINUE,
    sweep: SweepIt = False,
    dry_run: DryRun = False,
) -> CutGeneratedPlan:
    """Write a plan with a change, and a check, for each selected repository into the file. Todos are
    PLAN-change-REPO and PLAN-check-REPO. Selectors of one kind are a union, different kinds intersect.

    Call it with dry_run first. Run the plan with coord_sweep_plan.
    """
    made = session.coord.generators.campaign(
        title,
        repos=repos or (),
        tags=tags or (),
        roles=roles or (),
        all_repos=all_repos,
        run=run,
        prompt=prompt,
        check=check,
        order=order,
        on_failure=on_failure,
        sweep=sweep,
        dry_run=dry_run,
    )
    return answer(made)


def answer(made: GeneratedPlan) -> CutGeneratedPlan:
    """Return a generated plan without the secrets of its todos, and not more of them than an agent reads."""
    shown = made.model_copy(update={"todos": tuple(map(presentable, made.todos))})
    return cut(CutGeneratedPlan, shown, SHOWN)
