"""Forecasts of a plan: its duration under each strategy by simulation, the choice of strategy, and the
bottleneck. Pure.

schedule.py computes the schedules and the lower bound, bottleneck.py the bottleneck.

Under dataflow, the ready todo with the highest rank starts first; of three rankings, the one with the
shortest simulated schedule is taken. A list schedule is only as good as its list, and no list is best for
every plan (Graham 1969). The longest remaining path is best for nearly all plans, but it ignores that todos
of one repository run one at a time, and it can be slightly worse than the order of the levels. Over 1,800
plans, the path alone took longer than levels in 16, the better of the first two in 4, the best of the three
in none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordination.models import Strategy
from coordination.planner.bottleneck import Bottleneck, BoundTerms, Cause, Simulation, find_bottleneck
from coordination.planner.gates import MILESTONE_REPO
from coordination.planner.hours import LearnedFrom
from coordination.planner.schedule import (
    Schedule,
    Supply,
    bound,
    busiest_repo,
    busiest_resource,
    simulate,
    simulate_levels,
    slots_for,
    work_of,
)
from coordination.text import format_hours

if TYPE_CHECKING:
    from coordination.planner.graph import PlanGraph

Remaining = Mapping[str, float]
"""Assumed hours from each todo to the end; todos with more are more urgent."""
AT_THE_BOUND = 1 + 1e-9
STRICTLY = 100
"""Factor that separates ranks so far that waiting hardly counts: todos start in the order of the levels."""


@dataclass(frozen=True, kw_only=True)
class RankedSchedule:
    remaining: Remaining
    schedule: Schedule
    """The simulated result of this ranking."""


def best_ranking(graph: PlanGraph, levels: Schedule, slots: int, supply: Supply) -> RankedSchedule:
    """Return the best ranking for dataflow; stops when no other ranking can be better. `levels` is the
    schedule by levels.
    """
    least = AT_THE_BOUND * bound(graph.hours, graph.predecessors, graph.repo_of, slots)
    tried: list[RankedSchedule] = []
    for remaining in _rankings(graph, levels):
        schedule = simulate(
            graph.hours, graph.predecessors, graph.repo_of,
            slots=slots, urgency=graph.order, remaining=remaining, supply=supply,
        )  # fmt: skip
        tried.append(RankedSchedule(remaining=remaining, schedule=schedule))
        if schedule.makespan <= least:
            break
    return min(tried, key=lambda it: it.schedule.makespan)


def _rankings(graph: PlanGraph, levels: Schedule) -> Iterator[Remaining]:
    yield graph.rank
    yield _rank_with_repos(graph)
    yield {name: STRICTLY * (levels.makespan - at) for name, at in levels.start.items()}


def _rank_with_repos(graph: PlanGraph) -> Remaining:
    """Return the longest remaining path, with the work that is left in each repository as another path."""
    left = _left_in_repo(graph)
    rank: dict[str, float] = {}
    for name in reversed(tuple(graph.todos)):
        behind = max((rank[after] for after in graph.successors[name]), default=0.0)
        rank[name] = max(left[name], graph.hours[name] + behind)
    return rank


def _left_in_repo(graph: PlanGraph) -> Remaining:
    left: dict[str, float] = {}
    so_far: defaultdict[str, float] = defaultdict(float)
    for name in sorted(graph.todos, key=graph.order.__getitem__, reverse=True):
        repo = graph.repo_of[name]
        so_far[repo] += graph.hours[name]
        left[name] = so_far[repo]
    return left


@dataclass(frozen=True, kw_only=True)
class CriticalTodo:
    id: str
    repo: str
    hours: float


@dataclass(frozen=True, kw_only=True)
class Saving:
    """Simulated effect of one more slot or unit of a resource."""

    of: str
    """`slot`, or the name of a resource."""
    hours: float
    """Duration of the plan with it, by the strategy that a sweep would then choose."""
    saves_h: float
    """Hours saved; may be negative, because a list schedule can take longer with more
    capacity (Graham 1969).
    """


@dataclass(frozen=True, kw_only=True)
class Forecast:
    plan_id: str
    levels_h: float
    dataflow_h: float
    bound_h: float
    """Lower bound of any schedule: max(longest path, work / slots, work of the busiest repository, use of the
    busiest resource / its capacity).
    """
    work_h: float
    critical_h: float
    critical_path: tuple[CriticalTodo, ...]
    """Todos of the critical path in order of execution."""
    slots: int
    """Number of todos that can run at once: one per repository, limited by `max_parallel`."""
    busiest_repo: str
    """Repository with the most work; empty if there is nothing to do."""
    busiest_repo_h: float
    busiest_resource: str
    """Resource that is in use for longest at full utilisation; empty if none is needed."""
    busiest_resource_h: float
    strategy: Strategy
    """Strategy that a sweep uses; never `auto`."""
    reason: str
    bottleneck: Bottleneck | None
    """Bottleneck under that strategy; None if there is nothing to do."""
    one_more_slot: Saving | None
    one_more_resource: Saving | None
    """Effect of one more unit of the bottleneck, if that is a resource."""
    estimated: int
    """Number of todos with an estimate."""
    learned: int
    """Number of todos without an estimate whose hours are the median of similar todos in earlier runs."""
    learned_from: LearnedFrom | None
    """Where these hours were kept: in Redis, or in the history."""
    assumed: int
    """Number of todos without estimate or experience, which count for `assumed_h` each."""
    assumed_h: float
    approvals: int
    """Number of approvals that the plan needs; no time is counted for them."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The chosen strategy, with the reason and both simulations."""

    strategy: Strategy
    reason: str
    slots: int
    levels: Schedule
    dataflow: Schedule
    remaining: Remaining
    """Ranking of ready todos under dataflow."""

    @property
    def taken(self) -> Schedule:
        return self.levels if self.strategy is Strategy.LEVELS else self.dataflow


def choose_strategy(
    graph: PlanGraph,
    *,
    max_parallel: int | None = None,
    margin: float = 0.05,
    strategy: Strategy | None = None,
) -> Choice:
    """Simulate both strategies and choose one. `max_parallel` and `strategy` default to the plan's values.

    `auto` chooses levels unless dataflow is faster by more than `margin`.
    """
    slots = slots_for(set(graph.repo_of.values()) - {MILESTONE_REPO}, max_parallel or graph.plan.max_parallel)
    return _simulate_both(graph, slots, graph.supply, strategy or graph.plan.strategy, margin)


def _simulate_both(graph: PlanGraph, slots: int, supply: Supply, asked: Strategy, margin: float) -> Choice:
    levels = simulate_levels(graph.hours, graph.levels, graph.repo_of, slots=slots, supply=supply)
    best = best_ranking(graph, levels, slots, supply)
    dataflow = best.schedule
    known = not graph.assumed or graph.assumed < len(graph.todos) - len(graph.milestones)
    chosen, reason = choose(asked, levels.makespan, dataflow.makespan, margin, known=known)
    return Choice(
        strategy=chosen,
        reason=reason,
        slots=slots,
        levels=levels,
        dataflow=dataflow,
        remaining=best.remaining,
    )


def forecast(
    graph: PlanGraph,
    *,
    max_parallel: int | None = None,
    margin: float = 0.05,
    strategy: Strategy | None = None,
) -> Forecast:
    """Return the forecast of `choose_strategy` with the plan's bottleneck."""
    choice = choose_strategy(graph, max_parallel=max_parallel, margin=margin, strategy=strategy)
    asked = strategy or graph.plan.strategy

    def with_more(of: str, slots: int, supply: Supply) -> Saving:
        hours = _simulate_both(graph, slots, supply, asked, margin).taken.makespan
        return Saving(of=of, hours=hours, saves_h=choice.taken.makespan - hours)

    terms = _terms_of_bound(graph, choice.slots)
    simulation = Simulation(
        schedule=choice.taken, predecessors=graph.predecessors, repo_of=graph.repo_of, supply=graph.supply
    )
    bottleneck = find_bottleneck(terms, simulation) if graph.todos else None
    return Forecast(
        plan_id=graph.plan.id,
        levels_h=choice.levels.makespan,
        dataflow_h=choice.dataflow.makespan,
        bound_h=max(bound(graph.hours, graph.predecessors, graph.repo_of, choice.slots), terms.resource_h),
        work_h=graph.work_hours,
        critical_h=graph.critical_hours,
        critical_path=tuple(
            CriticalTodo(id=n, repo=graph.todos[n].repo, hours=graph.hours[n]) for n in graph.critical_path
        ),
        slots=choice.slots,
        busiest_repo=terms.repo,
        busiest_repo_h=terms.repo_h,
        busiest_resource=terms.resource,
        busiest_resource_h=terms.resource_h,
        strategy=choice.strategy,
        reason=choice.reason,
        bottleneck=bottleneck,
        one_more_slot=with_more("slot", choice.slots + 1, graph.supply) if graph.todos else None,
        one_more_resource=(
            with_more(bottleneck.name, choice.slots, graph.supply.with_one_more(bottleneck.name))
            if bottleneck and bottleneck.kind is Cause.RESOURCE
            else None
        ),
        estimated=len(graph.todos) - len(graph.milestones) - graph.assumed - len(graph.learned),
        learned=len(graph.learned),
        learned_from=graph.learned_from,
        assumed=graph.assumed,
        assumed_h=graph.assumed_hours,
        approvals=len(graph.approvals),
    )


def _terms_of_bound(graph: PlanGraph, slots: int) -> BoundTerms:
    repo, repo_h = busiest_repo(graph.hours, graph.repo_of)
    resource, resource_h = busiest_resource(graph.hours, graph.supply)
    work_h = work_of(graph.hours, graph.repo_of)
    return BoundTerms(
        path_h=graph.critical_hours, slots=slots, work_h=work_h,
        repo=repo, repo_h=repo_h, resource=resource, resource_h=resource_h,
    )  # fmt: skip


def choose(
    asked: Strategy, levels: float, dataflow: float, margin: float, *, known: bool = True
) -> tuple[Strategy, str]:
    """Return the strategy and the reason, in a sentence. `levels` and `dataflow` are the hours that each
    would take; unless `known`, they are assumed for every todo, and the reason does not name them.
    """
    estimates = f"estimates: levels {format_hours(levels)}, dataflow {format_hours(dataflow)}"
    both = estimates if known else "no todo has an estimate"
    if asked is not Strategy.AUTO:
        return asked, f"{asked}, as requested; {both}"
    if levels == dataflow:
        one = f"estimate {format_hours(levels)}" if known else both
        return Strategy.LEVELS, f"levels (dataflow is no faster); {one}"
    if levels > dataflow * (1 + margin):
        return Strategy.DATAFLOW, f"dataflow ({levels / dataflow - 1:.0%} faster); {both}"
    gain = "slower" if dataflow > levels else f"at most {margin:.0%} faster"
    return Strategy.LEVELS, f"levels (dataflow is {gain}); {both}"
