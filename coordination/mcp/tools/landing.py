"""Tools on landings: a plan's change set into the base branches, and out of them again."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coordination.api import LandingPreview, LandOptions
from coordination.mcp.answers import CutRun, cut
from coordination.mcp.declaration import Items, PlanName, Wait, executes, reads, undoes
from coordination.mcp.session import Session
from coordination.mcp.tools.runs import SHOWN
from coordination.models import Method, Via

WayIn = Annotated[Via | None, Field(description="Overrides the plan's value.")]
MethodName = Annotated[Method | None, Field(description="Overrides the plan's value.")]
Chosen = Annotated[
    Items,
    Field(description="Only these repositories; what their changes build on must be among them."),
]


@reads("Preview a landing")
def coord_preview_landing(
    session: Session, plan: PlanName, via: WayIn = None, repos: Chosen = None, method: MethodName = None
) -> LandingPreview:
    """Return what coord_land_plan would do in each repository: base, tip, method, outcome, and what would
    refuse it. Show it to the person who decides before you call coord_land_plan.
    """
    landings = session.coord.landings
    options = LandOptions(via=via, method=method, repos=tuple(repos or ()))
    return landings.preview(landings.prepare(plan, options))


@executes("Land a plan")
def coord_land_plan(
    session: Session,
    plan: PlanName,
    via: WayIn = None,
    repos: Chosen = None,
    method: MethodName = None,
    wait_s: Wait = 0,
) -> CutRun:
    """Start the run that brings the plan's change set into the base branches, in dependency order, and return
    it at once. It changes what everybody works on: call it only if a person told you to.

    Follow it with coord_get_run(run=…, wait_s=60). If a repository refuses for good, those that have landed
    are reverted, and the run's status is rolled_back; with rollback_failed something could not be reverted,
    and a person must look.
    """
    run = session.coord.landings.land(plan, via=via, repos=repos or (), method=method)
    return cut(CutRun, session.detached(run, wait_s), SHOWN)


@undoes("Revert a landing")
def coord_revert_plan(
    session: Session,
    plan: Annotated[str, Field(description="A plan's id, or the run that landed it.")],
    wait_s: Wait = 0,
) -> CutRun:
    """Start the run that takes what has landed of a plan out of the base branches again, by one commit in
    each. The change set is then open again: coord_land_plan brings it back. Call it only if a person told you
    to.
    """
    run = session.coord.landings.revert(plan)
    return cut(CutRun, session.detached(run, wait_s), SHOWN)
