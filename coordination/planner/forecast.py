"""Which of the ready todos goes first, under dataflow: of three rankings the one that does best in simulation. Pure.

A list schedule is only as good as its list, and none is best for every plan (Graham 1969). The longest remaining path is best nearly
always; it is blind to repositories, whose todos go one at a time, and it may lose to the order of the levels by a hair. Over 1,800
plans the path alone took longer than levels in 16, the better of the first two in 4, the best of the three in none.

How long a plan takes under each strategy, foreseen by simulation, and what holds it up. Pure: no I/O, no clock, no networkx.

How the two schedules are made: schedule.py. The least that any could take: bound.py. What holds a plan up is the term of that bound
that dominates; where a schedule takes longer than the bound, what was waited for: wait_chain.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from coordination.models import Strategy
from coordination.planner.gates import MILESTONE_REPO
from coordination.planner.resources import Supply
from coordination.planner.schedule import (
    Schedule,
    bound,
    busiest_repo,
    busiest_resource,
    simulate,
    simulate_levels,
    slots_for,
    work_of,
)
from coordination.planner.wait_chain import Cause, Run, chain, waited
from coordination.text import format_hours

if TYPE_CHECKING:
    from coordination.planner.graph import PlanGraph

Remaining = Mapping[str, float]
"""Hours from each todo to the end, as they are believed to be: the more, the more urgent."""
AT_THE_BOUND = 1 + 1e-9
STRICTLY = 100
"""So far apart that waiting hardly counts: in the order of the levels, and no other."""


@dataclass(frozen=True, kw_only=True)
class Ranked:
    remaining: Remaining
    schedule: Schedule
    """What comes of it."""


def ranked(graph: PlanGraph, levels: Schedule, slots: int, supply: Supply) -> Ranked:
    """`levels`: the schedule of the other strategy. Looks no further once nothing could be better."""
    least = AT_THE_BOUND * bound(graph.hours, graph.predecessors, graph.repo_of, slots)
    tried: list[Ranked] = []
    for remaining in _rankings(graph, levels):
        schedule = simulate(
            graph.hours, graph.predecessors, graph.repo_of,
            slots=slots, urgency=graph.order, remaining=remaining, supply=supply,
        )  # fmt: skip
        tried.append(Ranked(remaining=remaining, schedule=schedule))
        if schedule.makespan <= least:
            break
    return min(tried, key=lambda it: it.schedule.makespan)


def _rankings(graph: PlanGraph, levels: Schedule) -> Iterator[Remaining]:
    yield graph.rank
    yield _with_repos(graph)
    yield {name: STRICTLY * (levels.makespan - at) for name, at in levels.start.items()}


def _with_repos(graph: PlanGraph) -> Remaining:
    """The longest remaining path, where what is left in a repository is a path as well."""
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


NEAR = 0.01
"""A schedule that is no more above its bound is held up by what makes the bound."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The terms of the bound, in hours."""

    path_h: float
    slots: int
    work_h: float
    repo: str
    repo_h: float
    resource: str
    resource_h: float


@dataclass(frozen=True, kw_only=True)
class Bottleneck:
    kind: Cause
    name: str
    """Of the repository or resource; else empty."""
    hours: float
    """What it takes at least, or for how long it was waited for."""
    seen_in: Literal["bound", "simulation"]
    reason: str
    """In words."""


def find(limits: Limits, run: Run) -> Bottleneck:
    dominant = _dominant(limits)
    waits = waited(chain(run))
    if run.schedule.makespan <= dominant.hours * (1 + NEAR) or not waits:
        return dominant
    (kind, name), hours = max(waits.items(), key=lambda item: item[1])
    words = (
        f"{_words(kind, name, limits)} waited for during {format_hours(hours)} of the {format_hours(run.schedule.makespan)} "
        f"(no schedule could take less than {format_hours(dominant.hours)})"
    )
    return Bottleneck(kind=kind, name=name, hours=hours, seen_in="simulation", reason=words)


def _dominant(limits: Limits) -> Bottleneck:
    """Among equals the one that more machines could help least."""
    by_slots = limits.work_h / limits.slots
    terms = [
        (limits.path_h, Cause.PATH, "", "no todo of it can start before the one before it has ended"),
        (limits.repo_h, Cause.REPO, limits.repo, f"{format_hours(limits.repo_h)} of work, one todo at a time"),
        (limits.resource_h, Cause.RESOURCE, limits.resource, f"in use for {format_hours(limits.resource_h)}, were all of it always in use"),
        (by_slots, Cause.SLOTS, "", f"{format_hours(limits.work_h)} of work, {limits.slots} at once"),
    ]  # fmt: skip
    hours, kind, name, why = max(terms, key=lambda term: round(term[0], 9))
    return Bottleneck(kind=kind, name=name, hours=hours, seen_in="bound", reason=f"{_words(kind, name, limits)} {why}")


def _words(kind: Cause, name: str, limits: Limits) -> str:
    return {
        Cause.PATH: "the critical path:",
        Cause.REPO: f"repository {name}:",
        Cause.RESOURCE: f"resource {name}:",
        Cause.SLOTS: f"the {limits.slots} slots:" if limits.slots > 1 else "the one slot:",
        Cause.LEVEL: "the barriers between levels:",
    }[kind]


@dataclass(frozen=True, kw_only=True)
class CriticalTodo:
    id: str
    repo: str
    hours: float


@dataclass(frozen=True, kw_only=True)
class Saving:
    """What would be gained by more of something, simulated."""

    of: str
    """`slot`, or the name of a resource."""
    hours: float
    """That it would take then, by the strategy that a sweep would take then."""
    saves_h: float
    """Below zero, as list schedules can be longer with more of everything (Graham 1969)."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    plan_id: str
    levels_h: float
    dataflow_h: float
    bound_h: float
    """What no schedule can beat: max(longest path, work / slots, work of the busiest repo, use of the busiest resource / its capacity)."""
    work_h: float
    critical_h: float
    critical_path: tuple[CriticalTodo, ...]
    """First todo first."""
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
    bottleneck: Bottleneck | None
    """Of that strategy; None when there is nothing to do."""
    one_more_slot: Saving | None
    one_more_resource: Saving | None
    """Of the resource that is the bottleneck, if one is."""
    estimated: int
    """How many todos have an estimate."""
    learned: int
    """How many have none, and count for the median of others like them in earlier runs."""
    assumed: int
    """Of how many nothing is known: they count for `assumed_h` each."""
    assumed_h: float
    approvals: int
    """How many are waited for on the way; no time is counted for them."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The strategy to take, and why."""

    strategy: Strategy
    reason: str
    slots: int
    levels: Schedule
    dataflow: Schedule
    remaining: Remaining
    """By which dataflow ranks what is ready."""

    @property
    def taken(self) -> Schedule:
        return self.levels if self.strategy is Strategy.LEVELS else self.dataflow


def choose_strategy(
    graph: PlanGraph, *, max_parallel: int | None = None, margin: float = 0.05, strategy: Strategy | None = None
) -> Choice:
    """Both strategies foreseen, and the one to take. `max_parallel` and `strategy` default to what the plan says;
    `auto` takes levels unless dataflow is more than `margin` faster.
    """
    slots = slots_for(set(graph.repo_of.values()) - {MILESTONE_REPO}, max_parallel or graph.plan.max_parallel)
    return _weighed(graph, slots, graph.supply, strategy or graph.plan.strategy, margin)


def _weighed(graph: PlanGraph, slots: int, supply: Supply, asked: Strategy, margin: float) -> Choice:
    levels = simulate_levels(graph.hours, graph.levels, graph.repo_of, slots=slots, supply=supply)
    best = ranked(graph, levels, slots, supply)
    dataflow = best.schedule
    chosen, reason = choose(asked, levels.makespan, dataflow.makespan, margin)
    return Choice(
        strategy=chosen, reason=reason, slots=slots, levels=levels, dataflow=dataflow, remaining=best.remaining
    )


def forecast(
    graph: PlanGraph, *, max_parallel: int | None = None, margin: float = 0.05, strategy: Strategy | None = None
) -> Forecast:
    """What `weigh` foresees, with what holds the plan up."""
    choice = choose_strategy(graph, max_parallel=max_parallel, margin=margin, strategy=strategy)
    asked = strategy or graph.plan.strategy

    def with_more(of: str, slots: int, supply: Supply) -> Saving:
        hours = _weighed(graph, slots, supply, asked, margin).taken.makespan
        return Saving(of=of, hours=hours, saves_h=choice.taken.makespan - hours)

    limits = _limits(graph, choice.slots)
    bottleneck = find(limits, _simulated(graph, choice.taken)) if graph.todos else None
    return Forecast(
        plan_id=graph.plan.id,
        levels_h=choice.levels.makespan,
        dataflow_h=choice.dataflow.makespan,
        bound_h=max(bound(graph.hours, graph.predecessors, graph.repo_of, choice.slots), limits.resource_h),
        work_h=graph.work_hours,
        critical_h=graph.critical_hours,
        critical_path=tuple(
            CriticalTodo(id=n, repo=graph.todos[n].repo, hours=graph.hours[n]) for n in graph.critical_path
        ),
        slots=choice.slots,
        busiest_repo=limits.repo,
        busiest_repo_h=limits.repo_h,
        busiest_resource=limits.resource,
        busiest_resource_h=limits.resource_h,
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
        assumed=graph.assumed,
        assumed_h=graph.assumed_hours,
        approvals=len(graph.approvals),
    )


def _limits(graph: PlanGraph, slots: int) -> Limits:
    repo, repo_h = busiest_repo(graph.hours, graph.repo_of)
    resource, resource_h = busiest_resource(graph.hours, graph.supply)
    work_h = work_of(graph.hours, graph.repo_of)
    return Limits(
        path_h=graph.critical_hours, slots=slots, work_h=work_h,
        repo=repo, repo_h=repo_h, resource=resource, resource_h=resource_h,
    )  # fmt: skip


def _simulated(graph: PlanGraph, schedule: Schedule) -> Run:
    return Run(schedule=schedule, predecessors=graph.predecessors, repo_of=graph.repo_of, supply=graph.supply)


def choose(asked: Strategy, levels: float, dataflow: float, margin: float) -> tuple[Strategy, str]:
    """The strategy to take and why, in a sentence. `levels` and `dataflow` are the hours that each would take."""
    if asked is not Strategy.AUTO:
        return asked, f"{asked}, as requested; {_both(levels, dataflow)}"
    if levels == dataflow:
        return Strategy.LEVELS, f"levels (dataflow is no faster); estimate {format_hours(levels)}"
    if levels > dataflow * (1 + margin):
        return (
            Strategy.DATAFLOW,
            f"dataflow ({levels / dataflow - 1:.0%} faster); {_both(levels, dataflow)}",
        )
    gain = "slower" if dataflow > levels else f"at most {margin:.0%} faster"
    return Strategy.LEVELS, f"levels (dataflow is {gain}); {_both(levels, dataflow)}"


def _both(levels: float, dataflow: float) -> str:
    return f"estimates: levels {format_hours(levels)}, dataflow {format_hours(dataflow)}"
