"""Plans for tests, in a line: `plan({"A": "r1", "B": ("r2", ["A"])})`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coordination.models import Coordination, Ecosystem, OnFailure, Plan, Repo, Resource, Strategy, Todo
from coordination.planner.graph import PlanGraph, build
from coordination.runs.submission.order import Order

PLAN = "PLAN-001"
Todos = Mapping[str, str | tuple[str, Sequence[str]]]


def ecosystem(
    todos: Todos, *, slots: int = 1, capacities: Mapping[str, int] | None = None, **more: Mapping[str, Any]
) -> Ecosystem:
    """Each todo: its repo, or its repo and blockers; `more` gives single todos further fields."""
    rows = {name: (spec, ()) if isinstance(spec, str) else spec for name, spec in todos.items()}
    return Ecosystem(
        repos=tuple(
            Repo(name=repo, slots=slots) for repo in dict.fromkeys(repo for repo, _ in rows.values())
        ),
        resources=tuple(
            Resource(name=name, capacity=capacity) for name, capacity in (capacities or {}).items()
        ),
        coordination=Coordination(
            plans=(Plan(id=PLAN, title="a plan"),),
            todos=tuple(
                Todo.model_validate(
                    {
                        "id": name,
                        "task": f"do {name}",
                        "repo": repo,
                        "plan": PLAN,
                        "blocked_by": list(after),
                        "action": "true",
                    }
                    | dict(more.get(name, {}))
                )
                for name, (repo, after) in rows.items()
            ),
        ),
    )


def graph(todos: Todos, **more: Mapping[str, Any]) -> PlanGraph:
    return build(ecosystem(todos, **more), PLAN)


def order(
    strategy: Strategy = Strategy.DATAFLOW,
    on_failure: OnFailure = OnFailure.CONTINUE,
    max_parallel: int | None = None,
    no_cache: bool = False,
    auto: bool = False,
) -> Order:
    return Order(
        strategy=strategy,
        reason="a test",
        auto=auto,
        on_failure=on_failure,
        max_parallel=max_parallel,
        actor="test",
        no_cache=no_cache,
    )
