"""The forecast of a plan: its duration under each strategy, its critical path and its bottleneck. Pure.

The bottleneck is the dominant term of the lower bound of the plan's duration. If a simulated schedule takes
longer than the bound, the bottleneck is what the todos on its wait chain waited for longest. The chain leads
from the end of the schedule back to its start: each todo of it started when the previous one ended, because
it had waited for that one. If all links are dependencies, the chain is a critical path.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from coordination.models import Strategy
from coordination.planner.gates import MILESTONE_REPO
from coordination.planner.hours import LearnedFrom
from coordination.planner.schedule import (
    Predecessors,
    Schedule,
    Supply,
    bound,
    busiest_repo,
    busiest_resource,
    work_of,
)
from coordination.planner.strategy import choose_strategy, simulate_both
from coordination.text import format_hours

if TYPE_CHECKING:
    from coordination.planner.graph import PlanGraph


class Cause(StrEnum):
    """Reason for which a todo waits."""

    PATH = "path"
    """A dependency."""
    REPO = "repo"
    """Another todo in the same repository."""
    RESOURCE = "resource"
    SLOTS = "slots"
    """All slots were occupied."""
    LEVEL = "level"
    """The barrier between two levels."""


@dataclass(frozen=True, kw_only=True)
class ChainLink:
    """A todo of the wait chain."""

    todo: str
    hours: float
    cause: Cause
    """Reason why the next todo of the chain waited for this one; `path` for the last one."""
    name: str = ""
    """Name of the repository or resource."""


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """A simulated schedule with its inputs."""

    schedule: Schedule
    predecessors: Predecessors
    repo_of: Mapping[str, str]
    supply: Supply


def chain(simulation: Simulation) -> tuple[ChainLink, ...]:
    """Return the chain from its first todo; its hours add up to the makespan."""
    return tuple(_walk_back(simulation))[::-1]


def waits_by_cause(links: Sequence[ChainLink]) -> dict[tuple[Cause, str], float]:
    """Return the hours of the chain by what the next todo waited for, without dependencies."""
    hours: defaultdict[tuple[Cause, str], float] = defaultdict(float)
    for link in links:
        if link.cause is not Cause.PATH:
            hours[link.cause, link.name] += link.hours
    return dict(hours)


def _walk_back(simulation: Simulation) -> Iterator[ChainLink]:
    schedule = simulation.schedule
    ended: defaultdict[float, list[str]] = defaultdict(list)
    for name, end in schedule.end.items():
        ended[end].append(name)
    last = max(schedule.end, key=lambda name: schedule.end[name], default=None)
    cause, of = Cause.PATH, ""
    while last is not None:
        yield ChainLink(todo=last, hours=schedule.end[last] - schedule.start[last], cause=cause, name=of)
        start = schedule.start[last]
        waited = _waited_for(simulation, last, ended[start]) if start else None
        last, cause, of = waited or (None, cause, of)


def _waited_for(simulation: Simulation, name: str, ending: Sequence[str]) -> tuple[str, Cause, str] | None:
    """Return a todo that ended when this one started, and the reason for the wait; None if it started without
    waiting.
    """
    others = [other for other in ending if other != name]
    needed = set(simulation.predecessors.get(name, ()))
    if simulation.schedule.ready[name] == simulation.schedule.start[name]:
        before = next((other for other in others if other in needed), None)
        if before is not None:
            return before, Cause.PATH, ""
        return (others[0], Cause.LEVEL, "") if others else None
    todos = [other for other in others if simulation.repo_of[other] != MILESTONE_REPO]
    repo, needs = simulation.repo_of[name], simulation.supply.needs.get(name, {})
    for other in todos:
        if simulation.repo_of[other] == repo:
            return other, Cause.REPO, repo
    for other in todos:
        if shared := sorted(needs.keys() & simulation.supply.needs.get(other, {}).keys()):
            return other, Cause.RESOURCE, shared[0]
    return (todos[0], Cause.SLOTS, "") if todos else None


NEAR = 0.01
"""Relative distance to the bound within which the term of the bound is the bottleneck."""


@dataclass(frozen=True, kw_only=True)
class BoundTerms:
    """The terms of the lower bound, in hours."""

    path_h: float
    slots: int
    work_h: float
    repo: str
    repo_h: float
    resource: str
    resource_h: float


@dataclass(frozen=True, kw_only=True)
class Bottleneck:
    """The cause that determines the duration of a plan."""

    kind: Cause
    name: str
    """Name of the repository or resource, else empty."""
    hours: float
    """Minimal hours that it needs, or hours that todos waited for it."""
    seen_in: Literal["bound", "simulation"]
    reason: str
    """Explanation for people."""


def find_bottleneck(terms: BoundTerms, simulation: Simulation) -> Bottleneck:
    """Return the dominant term, or what the todos of the simulated schedule waited for longest, if that takes
    longer than the bound.
    """
    dominant = _dominant(terms)
    waits = waits_by_cause(chain(simulation))
    if simulation.schedule.makespan <= dominant.hours * (1 + NEAR) or not waits:
        return dominant
    (kind, name), hours = max(waits.items(), key=lambda item: item[1])
    reason = (
        f"{_label(kind, name, terms)} waited for during {format_hours(hours)} of the "
        f"{format_hours(simulation.schedule.makespan)} (no schedule could take less than "
        f"{format_hours(dominant.hours)})"
    )
    return Bottleneck(kind=kind, name=name, hours=hours, seen_in="simulation", reason=reason)


def _dominant(terms: BoundTerms) -> Bottleneck:
    """Return the dominant term; among equal ones the one that more machines would help least."""
    by_slots = terms.work_h / terms.slots
    candidates = [
        (terms.path_h, Cause.PATH, "", "each todo of it waits for the one before"),
        (terms.repo_h, Cause.REPO, terms.repo,
            f"{format_hours(terms.repo_h)} of work, one todo at a time"),
        (terms.resource_h, Cause.RESOURCE, terms.resource,
            f"in use for {format_hours(terms.resource_h)} at full utilisation"),
        (by_slots, Cause.SLOTS, "", f"{format_hours(terms.work_h)} of work, {terms.slots} at once"),
    ]  # fmt: skip
    hours, kind, name, why = max(candidates, key=lambda term: round(term[0], 9))
    return Bottleneck(
        kind=kind, name=name, hours=hours, seen_in="bound", reason=f"{_label(kind, name, terms)} {why}"
    )


def _label(kind: Cause, name: str, terms: BoundTerms) -> str:
    return {
        Cause.PATH: "the critical path:",
        Cause.REPO: f"repository {name}:",
        Cause.RESOURCE: f"resource {name}:",
        Cause.SLOTS: f"the {terms.slots} slots:" if terms.slots > 1 else "the one slot:",
        Cause.LEVEL: "the barriers between levels:",
    }[kind]


@dataclass(frozen=True, kw_only=True)
class CriticalTodo:
    """A todo of the critical path."""

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
    """The expected duration of a plan, and the reasons for it."""

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
    """Number of todos that can run at once: the slots of the living workers, else, while none lives, one per
    repository; at most `max_parallel`.
    """
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
    """Source of these hours: Redis, or the history."""
    assumed: int
    """Number of todos without estimate or experience, which count for `assumed_h` each."""
    assumed_h: float
    approvals: int
    """Number of approvals that the plan needs; no time is counted for them."""


def forecast(
    graph: PlanGraph,
    *,
    max_parallel: int | None = None,
    margin: float = 0.05,
    strategy: Strategy | None = None,
) -> Forecast:
    """Return the forecast of `choose_strategy` with the plan's bottleneck."""
    choice = choose_strategy(graph, max_parallel=max_parallel, margin=margin, strategy=strategy)
    requested = strategy or graph.plan.strategy

    def with_more(of: str, slots: int, supply: Supply) -> Saving:
        hours = simulate_both(graph, slots, supply, requested, margin).taken.makespan
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
