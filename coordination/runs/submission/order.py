"""How a run is executed, decided by its plan, the settings and the options; what can never be executed is
refused here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from coordination.environment import actor
from coordination.errors import PlanRefused
from coordination.models import (
    LandAction,
    ManualAction,
    NoopAction,
    OnFailure,
    Plan,
    QaAction,
    RevertAction,
    ServiceAction,
    Strategy,
    Todo,
    Workspace,
)
from coordination.planner.gates import MILESTONE_REPO
from coordination.planner.strategy import choose_strategy
from coordination.runs.submission.agents import refuse_unfit_agents
from coordination.settings import Settings
from coordination.text import listed
from coordination.trust.orders import StartKind

if TYPE_CHECKING:  # importing it loads networkx; a caller with a graph has loaded it already
    from coordination.planner.graph import PlanGraph


@dataclass(frozen=True, kw_only=True)
class Order:
    """How a run is executed; `strategy` is resolved, never `auto`."""

    strategy: Strategy
    reason: str
    """The reason for the strategy, as a sentence."""
    auto: bool = False
    """True if `auto` chose it, so that a run leaves its levels when a todo waits for something outside."""
    on_failure: OnFailure
    max_parallel: int | None = None
    actor: str = field(default_factory=actor)
    operation: StartKind = "sweep"
    remaining: Mapping[str, float] = field(default_factory=dict)
    """Hours from each todo to the end, by which ready todos are ranked; if empty, the longest path counts."""
    starts: Mapping[str, float] = field(default_factory=dict)
    """Hours until each todo would start, by the forecast."""
    no_cache: bool = False
    """True if todos with a `cache` are executed regardless of it."""
    timeout: timedelta | None = None
    """Time after which the run is ended."""
    no_change_set: bool = False
    """True if the commits of its todos belong to no change set."""
    lands: tuple[str, ...] = ()
    """The change sets that it lands, if those are several."""
    overrides: tuple[str, ...] = ()
    """Options by which it goes on without a safeguard."""
    optional: Collection[str] = ()
    """Todos whose failure skips only their dependents, where `on_failure` is `rollback`."""


def decide(
    graph: PlanGraph,
    settings: Settings,
    *,
    strategy: Strategy | None = None,
    on_failure: OnFailure | None = None,
    max_parallel: int | None = None,
    at_once: int | None = None,
    no_cache: bool = False,
    timeout: timedelta | None = None,
    operation: StartKind = "sweep",
    no_change_set: bool = False,
) -> Order:
    """Return how the run will be executed: by the arguments, else by the plan's fields. `at_once`: how many
    of its todos the workers can execute at once; None: by the settings.
    """
    limit = max_parallel or graph.plan.max_parallel
    choice = choose_strategy(
        graph,
        max_parallel=at_once or settings.slots_beside(limit),
        margin=settings.levels_margin,
        strategy=strategy,
    )
    return Order(
        strategy=choice.strategy,
        reason=choice.reason,
        auto=(strategy or graph.plan.strategy) is Strategy.AUTO,
        on_failure=on_failure or graph.plan.on_failure,
        max_parallel=limit,
        remaining=choice.remaining if choice.strategy is Strategy.DATAFLOW else {},
        starts=choice.taken.start,
        no_cache=no_cache,
        timeout=timeout or graph.plan.timeout,
        operation=operation,
        no_change_set=no_change_set,
    )


def order_of_generated(plan: Plan, operation: StartKind, **more: Any) -> Order:
    """Return the order of a run of todos that coord makes itself."""
    return Order(
        strategy=Strategy.DATAFLOW,
        reason="dataflow, as for all todos that coord makes",
        on_failure=plan.on_failure,
        operation=operation,
        **more,
    )


def refuse_impossible(graph: PlanGraph, on_failure: OnFailure | None, settings: Settings) -> None:
    """Raise PlanRefused for a todo that can never be executed, or not under this policy. `on_failure`: None
    for that of the plan.
    """
    refuse_not_undoable(graph.todos.values(), on_failure or graph.plan.on_failure)
    refuse_unfit_agents(graph.todos.values(), settings, graph.plan)


def refuse_not_undoable(todos: Iterable[Todo], on_failure: OnFailure) -> None:
    """Raise PlanRefused where a failure rolls the run back and one of these todos cannot be undone."""
    helpless = [f"{todo.id} ({why})" for todo in todos if (why := why_not_undoable(todo))]
    if on_failure is OnFailure.ROLLBACK and helpless:
        raise PlanRefused(
            f"on_failure is rollback, but there is no way to undo {listed(helpless)}",
            "give them a `compensate` (`true` where there is nothing to undo); "
            "or sweep with --on-failure halt or continue",
        )


def why_not_undoable(todo: Todo, *, in_git: bool = True) -> str:
    """Return why nothing undoes the todo; empty where its `compensate` or the deletion of the run's branch
    undoes it, and for approvals and manual todos, of which coord has nothing to undo.
    """
    if (
        todo.compensate is not None
        or todo.repo == MILESTONE_REPO
        or isinstance(todo.action, NoopAction | ManualAction | LandAction | QaAction | ServiceAction)
    ):
        return ""
    if isinstance(todo.action, RevertAction):
        return "it reverts; coord land brings the change set back"
    if todo.workspace is Workspace.IN_PLACE:
        return "it works in place"
    return "" if in_git else "it worked in a folder that is not a git repository"
