"""The tool that forecasts a plan."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coordination.api import Selectors, texts
from coordination.mcp.answers import CutForecast, cut_forecast
from coordination.mcp.declaration import AtOnce, Items, Most, PlanName, reads
from coordination.mcp.session import Session


@reads("Forecast a plan", "planner.forecast")
def coord_forecast_plan(
    session: Session,
    plan: PlanName,
    repos: Annotated[Items, Field(description=texts.TODOS_OF_REPOS)] = None,
    todos: Annotated[Items, Field(description=texts.TODOS)] = None,
    max_parallel: AtOnce = None,
    limit: Most = 30,
) -> CutForecast:
    """Nothing is started."""
    wanted = Selectors(repos=repos or (), todos=todos or ())
    planner = session.coord.planner
    foreseen = planner.forecast(plan, wanted, max_parallel=max_parallel)
    return cut_forecast(foreseen, planner.progress(plan), limit)
