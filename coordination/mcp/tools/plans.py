"""Plans: what they hold, how long they take, whether they are done."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coordination.mcp.answers import CutForecast, CutPlanCompletion, Page, cut, cut_forecast, page
from coordination.mcp.declaring import AnyOf, AtOnce, Items, Limit, Most, Offset, PlanName, checks, reads
from coordination.mcp.session import Session
from coordination.models import Plan, PlanStatus
from coordination.planner.selection import Selectors


@reads("List plans")
def coord_list_plans(
    office: Session, status: AnyOf[PlanStatus] = (), repo: AnyOf[str] = (), limit: Limit = 100, offset: Offset = 0
) -> Page[Plan]:
    """Plans that fit all filters, with their milestones, by date. Their todos: coord_list_todos(plan=…)."""
    return page(office.coord.manager.list_plans(status or None, repo or None), limit, offset)


@reads("Forecast a plan")
def coord_forecast_plan(
    office: Session,
    plan: PlanName,
    repos: Annotated[Items, Field(description="Only todos of these repositories.")] = None,
    todos: Annotated[Items, Field(description="Only these todos.")] = None,
    max_parallel: AtOnce = None,
    limit: Most = 30,
) -> CutForecast:
    """How many hours a sweep of the plan would take under each strategy, which one it takes and why, the critical path, what the
    bottleneck is, and what one more slot would save. Todos without an estimate count as others like them took. Starts nothing.
    """
    wanted = Selectors(repos=repos or (), todos=todos or ())
    return cut_forecast(office.coord.planner.forecast(plan, wanted, max_parallel=max_parallel), limit)


@checks("Is a plan done?")
def coord_validate_plan(
    office: Session,
    plan: PlanName,
    run_checks: Annotated[bool, Field(description="Also run the commands of its criteria, 60 s each.")] = False,
    limit: Most = 30,
) -> CutPlanCompletion:
    """Whether the plan may count as done: milestones, criteria, deliverables, open todos, and what is missing."""
    standing = office.coord.manager.validate_plan_completion(plan, run_checks=run_checks)
    return cut(CutPlanCompletion, standing, limit)
