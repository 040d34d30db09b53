"""How long a plan takes under each strategy, foreseen from estimates. Pure: no I/O, no clock, no networkx.

List scheduling (Graham 1969) by the longest remaining path (HLFET: Adam, Chandy, Dickson 1974): whenever a slot is free, the most
urgent ready todo whose repo is free takes it. A run's todos on one repo go one at a time, since they share its worktree.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from coordination.models import Strategy
from coordination.planner.hours import say

if TYPE_CHECKING:
    from coordination.planner.graph import PlanGraph

Predecessors = Mapping[str, Collection[str]]


@dataclass(frozen=True, kw_only=True)
class Forecast:
    plan_id: str
    levels_h: float
    dataflow_h: float
    bound_h: float
    """What no schedule can beat: max(longest path, work / slots, work of the busiest repo)."""
    work_h: float
    critical_h: float
    slots: int
    """How many todos can run at once: one for each repo, or fewer where `max_parallel` says so."""
    busiest_repo: str
    """The repo with the most work; empty when there is nothing to do."""
    busiest_repo_h: float
    strategy: Strategy
    """The one that the sweep takes: never `auto`."""
    reason: str
    assumed: int
    """How many todos have no estimate, and counted for `assumed_h` each."""
    assumed_h: float


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When each todo starts and ends, in the unit of the durations, from 0."""

    start: Mapping[str, float]
    end: Mapping[str, float]

    @property
    def makespan(self) -> float:
        return max(self.end.values(), default=0.0)


def forecast(
    graph: PlanGraph, *, max_parallel: int | None = None, margin: float = 0.05, strategy: Strategy | None = None
) -> Forecast:
    """Both strategies foreseen, and the one to take. `max_parallel` and `strategy` default to what the plan says;
    `auto` takes levels unless dataflow is more than `margin` faster.
    """
    repo_of = {name: todo.repo for name, todo in graph.todos.items()}
    slots = slots_for(graph.repos, max_parallel or graph.plan.max_parallel)
    by_levels = simulate_levels(graph.hours, graph.levels, repo_of, slots=slots).makespan
    by_flow = simulate(graph.hours, graph.predecessors, repo_of, slots=slots, urgency=graph.order).makespan
    chosen, reason = choose(strategy or graph.plan.strategy, by_levels, by_flow, margin)
    busiest, busiest_h = busiest_repo(graph.hours, repo_of)
    return Forecast(
        plan_id=graph.plan.id,
        levels_h=by_levels,
        dataflow_h=by_flow,
        bound_h=bound(graph.hours, graph.predecessors, repo_of, slots),
        work_h=graph.work_hours,
        critical_h=graph.critical_hours,
        slots=slots,
        busiest_repo=busiest,
        busiest_repo_h=busiest_h,
        strategy=chosen,
        reason=reason,
        assumed=graph.assumed,
        assumed_h=graph.assumed_hours,
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


def simulate(
    durations: Mapping[str, float],
    predecessors: Predecessors,
    repo_of: Mapping[str, str],
    *,
    slots: int,
    urgency: Mapping[str, int] | None = None,
) -> Schedule:
    """The dataflow strategy: each todo starts as soon as its predecessors, its repo and a slot let it, the smallest
    `urgency` first. Without one, the order of `durations` counts.
    """
    if slots < 1:
        raise ValueError("a schedule needs at least one slot")
    clock = _Clock(durations, predecessors, repo_of, slots, urgency or {name: i for i, name in enumerate(durations)})
    return clock.run()


def simulate_levels(
    durations: Mapping[str, float], levels: Iterable[Sequence[str]], repo_of: Mapping[str, str], *, slots: int
) -> Schedule:
    """The levels strategy: no todo of a level starts before all of the earlier level have ended."""
    start: dict[str, float] = {}
    end: dict[str, float] = {}
    now = 0.0
    for level in levels:
        part = simulate({name: durations[name] for name in level}, {}, repo_of, slots=slots)
        start |= {name: now + at for name, at in part.start.items()}
        end |= {name: now + at for name, at in part.end.items()}
        now += part.makespan
    return Schedule(start=start, end=end)


class _Clock:
    """One simulated run. Ready todos stand in one heap; one whose repo is busy waits aside in the repo's own heap, and
    the end of a todo puts back only the most urgent of those: each todo moves a few times, whatever the width.
    """

    def __init__(
        self,
        durations: Mapping[str, float],
        predecessors: Predecessors,
        repo_of: Mapping[str, str],
        slots: int,
        urgency: Mapping[str, int],
    ) -> None:
        self._durations, self._repo_of, self._urgency = durations, repo_of, urgency
        self._free_slots = slots
        self._missing = {name: len(set(predecessors.get(name, ()))) for name in durations}
        self._successors: defaultdict[str, list[str]] = defaultdict(list)
        for name in durations:
            for before in set(predecessors.get(name, ())):
                self._successors[before].append(name)
        self._ready: list[tuple[int, str]] = []
        self._aside: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
        self._busy: set[str] = set()
        self._running: list[tuple[float, int, str]] = []
        self._start: dict[str, float] = {}
        self._end: dict[str, float] = {}

    def run(self) -> Schedule:
        for name, missing in self._missing.items():
            if not missing:
                heappush(self._ready, (self._urgency[name], name))
        self._fill(0.0)
        while self._running:
            now = self._running[0][0]
            while self._running and self._running[0][0] == now:
                self._finish(heappop(self._running)[2])
            self._fill(now)
        return Schedule(start=self._start, end=self._end)

    def _fill(self, now: float) -> None:
        while self._free_slots and self._ready:
            urgency, name = heappop(self._ready)
            repo = self._repo_of[name]
            if repo in self._busy:
                heappush(self._aside[repo], (urgency, name))
                continue
            self._busy.add(repo)
            self._free_slots -= 1
            self._start[name], self._end[name] = now, now + self._durations[name]
            heappush(self._running, (self._end[name], urgency, name))

    def _finish(self, name: str) -> None:
        repo = self._repo_of[name]
        self._free_slots += 1
        self._busy.discard(repo)
        if self._aside[repo]:
            heappush(self._ready, heappop(self._aside[repo]))
        for after in self._successors[name]:
            self._missing[after] -= 1
            if not self._missing[after]:
                heappush(self._ready, (self._urgency[after], after))
