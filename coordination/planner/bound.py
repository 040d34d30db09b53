"""The least that any schedule could take. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from graphlib import TopologicalSorter

from coordination.planner.gates import MILESTONE_REPO
from coordination.planner.resources import Supply
from coordination.planner.schedule import Predecessors


def slots_for(repos: Collection[str], max_parallel: int | None = None) -> int:
    """How many todos of one run can be under way at once."""
    return max(1, min(len(repos), max_parallel or len(repos)))


def bound(durations: Mapping[str, float], predecessors: Predecessors, repo_of: Mapping[str, str], slots: int) -> float:
    """The least any schedule could take, in the unit of the durations: max(longest path, work / slots, work of the
    busiest repo). A todo without a duration never ran, and counts for nothing.
    """
    by_slots = work_of(durations, repo_of) / slots
    return max(longest_path(durations, predecessors), by_slots, busiest_repo(durations, repo_of)[1])


def work_of(durations: Mapping[str, float], repo_of: Mapping[str, str]) -> float:
    """What takes slots: what is done NOWHERE takes none."""
    return sum(duration for name, duration in durations.items() if repo_of[name] != MILESTONE_REPO)


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
        if repo_of[name] != MILESTONE_REPO:
            work[repo_of[name]] += duration
    return max(work.items(), key=lambda item: item[1], default=("", 0.0))


def busiest_resource(durations: Mapping[str, float], supply: Supply) -> tuple[str, float]:
    """The resource that takes the longest, were all of it always in use, and how long; ("", 0) where none is needed."""
    use: defaultdict[str, float] = defaultdict(float)
    for name, needs in supply.needs.items():
        for what, amount in needs.items():
            use[what] += durations.get(name, 0.0) * amount / supply.capacities[what]
    return max(use.items(), key=lambda item: item[1], default=("", 0.0))
