"""How long a plan takes under each strategy, foreseen from estimates. Pure: no I/O, no clock, no networkx.

How the two schedules come about: schedule.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

from coordination.models import Strategy
from coordination.planner.hours import say
from coordination.planner.schedule import Predecessors, simulate, simulate_levels
from coordination.planner.supply import Supply

if TYPE_CHECKING:
    from coordination.planner.graph import PlanGraph


@dataclass(frozen=True, kw_only=True)
class Forecast:
    plan_id: str
    levels_h: float
    dataflow_h: float
    bound_h: float
    """What no schedule can beat: max(longest path, work / slots, work of the busiest repo, use of the busiest resource / its capacity)."""
    work_h: float
    critical_h: float
    slots: int
    """How many todos can run at once: one for each repo, or fewer where `max_parallel` says so."""
    busiest_repo: str
    """The repo with the most work; empty when there is nothing to do."""
    busiest_repo_h: float
    busiest_resource: str
    """The resource that is in use for longest, were all of it always in use; empty when none is needed."""
    busiest_resource_h: float
    strategy: Strategy
    """The one that the sweep takes: never `auto`."""
    reason: str
    assumed: int
    """How many todos have no estimate, and counted for `assumed_h` each."""
    assumed_h: float
    approvals: int
    """How many are waited for on the way; no time is counted for them."""


def forecast(
    graph: PlanGraph, *, max_parallel: int | None = None, margin: float = 0.05, strategy: Strategy | None = None
) -> Forecast:
    """Both strategies foreseen, and the one to take. `max_parallel` and `strategy` default to what the plan says;
    `auto` takes levels unless dataflow is more than `margin` faster.
    """
    repo_of = {name: todo.repo for name, todo in graph.todos.items()}
    slots = slots_for(graph.repos, max_parallel or graph.plan.max_parallel)
    by_levels = simulate_levels(graph.hours, graph.levels, repo_of, slots=slots, supply=graph.supply).makespan
    by_flow = simulate(
        graph.hours, graph.predecessors, repo_of, slots=slots, urgency=graph.order, supply=graph.supply
    ).makespan
    chosen, reason = choose(strategy or graph.plan.strategy, by_levels, by_flow, margin)
    busiest, busiest_h = busiest_repo(graph.hours, repo_of)
    scarcest, scarcest_h = busiest_resource(graph.hours, graph.supply)
    return Forecast(
        plan_id=graph.plan.id,
        levels_h=by_levels,
        dataflow_h=by_flow,
        bound_h=max(bound(graph.hours, graph.predecessors, repo_of, slots), scarcest_h),
        work_h=graph.work_hours,
        critical_h=graph.critical_hours,
        slots=slots,
        busiest_repo=busiest,
        busiest_repo_h=busiest_h,
        busiest_resource=scarcest,
        busiest_resource_h=scarcest_h,
        strategy=chosen,
        reason=reason,
        assumed=graph.assumed,
        assumed_h=graph.assumed_hours,
        approvals=len(graph.approvals),
    )


def slots_for(repos: Collection[str], max_parallel: int | None = None) -> int:
    """How many todos of one run can be under way at once."""
    return max(1, min(len(repos), max_parallel or len(repos)))


def choose(asked: Strategy, levels: float, dataflow: float, margin: float) -> tuple[Strategy, str]:
    """The strategy to take and why, in a sentence. `levels` and `dataflow` are the hours that each would take."""
    if asked is not Strategy.AUTO:
        return asked, f"{asked} was asked for ({_both(levels, dataflow)})"
    if levels == dataflow:
        return Strategy.LEVELS, f"levels, as dataflow would take the same {say(levels)}"
    if levels > dataflow * (1 + margin):
        return (
            Strategy.DATAFLOW,
            f"dataflow, {levels / dataflow - 1:.0%} faster than levels ({_both(levels, dataflow)})",
        )
    gain = "slower" if dataflow > levels else f"not more than {margin:.0%} faster"
    return Strategy.LEVELS, f"levels, as dataflow is {gain} ({_both(levels, dataflow)})"


def _both(levels: float, dataflow: float) -> str:
    return f"levels {say(levels)}, dataflow {say(dataflow)}"


def bound(durations: Mapping[str, float], predecessors: Predecessors, repo_of: Mapping[str, str], slots: int) -> float:
    """The least any schedule could take, in the unit of the durations: max(longest path, work / slots, work of the
    busiest repo). A todo without a duration never ran, and counts for nothing.
    """
    work = sum(durations.values())
    return max(longest_path(durations, predecessors), work / slots, busiest_repo(durations, repo_of)[1])


def longest_path(durations: Mapping[str, float], predecessors: Predecessors) -> float:
    finish: dict[str, float] = {}
    for name in TopologicalSorter(predecessors).static_order():
        before = max((finish[other] for other in predecessors.get(name, ())), default=0.0)
        finish[name] = before + durations.get(name, 0.0)
    return max(finish.values(), default=0.0)


def busiest_repo(durations: Mapping[str, float], repo_of: Mapping[str, str]) -> tuple[str, float]:
    """The repo with the most work, and its work; ("", 0) where there is none."""
    work: defaultdict[str, float] = defaultdict(float)
    for name, duration in durations.items():
        work[repo_of[name]] += duration
    return max(work.items(), key=lambda item: item[1], default=("", 0.0))


def busiest_resource(durations: Mapping[str, float], supply: Supply) -> tuple[str, float]:
    """The resource that takes the longest, were all of it always in use, and how long; ("", 0) where none is needed."""
    use: defaultdict[str, float] = defaultdict(float)
    for name, needs in supply.needs.items():
        for what, amount in needs.items():
            use[what] += durations.get(name, 0.0) * amount / supply.capacities[what]
    return max(use.items(), key=lambda item: item[1], default=("", 0.0))
