"""Plans and todos that coord makes and no file has: of landings, checks and commands in many repositories."""

from __future__ import annotations

from collections.abc import Sequence

from coordination.models import (
    Coordination,
    Ecosystem,
    LandRules,
    OnFailure,
    Plan,
    PlanStatus,
    Strategy,
    Todo,
)
from coordination.planner.graph import PlanGraph, build


def generated_plan(
    ecosystem: Ecosystem,
    plan_id: str,
    title: str,
    todos: Sequence[Todo],
    *,
    repos: Sequence[str],
    on_failure: OnFailure,
    two_persons: bool = False,
    land: LandRules | None = None,
) -> tuple[Ecosystem, PlanGraph]:
    """Return the records and the graph of a run of these todos, and of nothing that the file has. `plan_id`
    has a colon, as no id in a file has.
    """
    plan = Plan(
        id="generated",
        title=title,
        status=PlanStatus.ACTIVE,
        repos=tuple(repos),
        strategy=Strategy.DATAFLOW,
        on_failure=on_failure,
        two_persons=two_persons,
        land=land,
    ).model_copy(update={"id": plan_id})
    # not validated again: only coord makes plans and todos like these
    coordination = Coordination(id=ecosystem.coordination.id).model_copy(
        update={"plans": (plan,), "todos": tuple(todos)}
    )
    records = ecosystem.model_copy(update={"coordination": coordination})
    return records, build(records, plan_id)
