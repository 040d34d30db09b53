"""Simulated schedules of a run: the start and end of each todo, and the lower bound of any schedule.

Pure: no I/O, no clock, no networkx. The method is list scheduling (Graham 1969) by the longest remaining path
(HLFET: Adam, Chandy, Dickson 1974) with ageing: whenever a slot is free, the most urgent ready todo whose
repository and resources are available takes it; a todo that cannot start does not block others. A run's todos
in one repository run one at a time, because they share its worktree.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from heapq import heappop, heappush
from itertools import chain

from coordination.models import Todo
from coordination.planner.gates import MILESTONE_REPO
from coordination.planner.paths import ranks
from coordination.text import did_you_mean, listed


@dataclass(frozen=True, kw_only=True)
class Supply:
    """The resources of a plan, and the needs of its todos."""

    capacities: Mapping[str, int] = field(default_factory=dict)
    needs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Units of each resource that a todo holds while it runs: todo → resource → units."""

    def with_one_more(self, name: str) -> Supply:
        return replace(self, capacities={**self.capacities, name: self.capacities[name] + 1})


NOTHING_SHARED = Supply()


def shortfalls(todos: Iterable[Todo], capacities: Mapping[str, int]) -> Iterator[str]:
    """Yield a sentence, with a remedy, for each resource need that can never be met."""
    needs = [(todo, need) for todo in todos for need in todo.resources]
    users: dict[str, list[str]] = {}
    for todo, need in needs:
        if need.name not in capacities:
            users.setdefault(need.name, []).append(todo.id)
    for name, ids in users.items():
        near = did_you_mean(name, capacities)
        yield (
            f"resource {name!r} of {listed(ids)} is not declared{near}: add it to resources, "
            "or correct the name"
        )
    for todo, need in needs:
        if need.amount > capacities.get(need.name, need.amount):
            yield (
                f"{todo.id} {capacity_exceeded(need.name, need.amount, capacities)}: lower the amount, "
                "or raise the capacity"
            )


def capacity_exceeded(name: str, amount: int, capacities: Mapping[str, int]) -> str:
    return f"needs {amount:,} of {name}, which has a capacity of {capacities[name]:,}"


def slots_for(repos: Collection[str], max_parallel: int | None = None) -> int:
    """Return the number of todos of one run that can run at once."""
    return max(1, min(len(repos), max_parallel or len(repos)))


def bound(
    durations: Mapping[str, float],
    predecessors: Predecessors,
    repo_of: Mapping[str, str],
    slots: int,
    levels: Levels | None = None,
) -> float:
    """Return the lower bound of any schedule: max(longest path, work / slots, work of the busiest
    repository). With `levels`: the sum of that over the levels.

    The unit is that of the durations. A todo without a duration never ran, and counts as 0. `predecessors`:
    each key after its own predecessors.
    """
    if levels is not None:
        return sum(bound({name: durations[name] for name in level}, {}, repo_of, slots) for level in levels)
    by_slots = work_of(durations, repo_of) / slots
    return max(longest_path(durations, predecessors), by_slots, busiest_repo(durations, repo_of)[1])


def work_of(durations: Mapping[str, float], repo_of: Mapping[str, str]) -> float:
    """Return the work that occupies slots; todos of MILESTONE_REPO occupy none."""
    return sum(duration for name, duration in durations.items() if repo_of[name] != MILESTONE_REPO)


def longest_path(durations: Mapping[str, float], predecessors: Predecessors) -> float:
    """Return the longest path. `predecessors`: each key after its own predecessors."""
    finish = dict(durations)
    for name, others in predecessors.items():
        before = max((finish.get(other, 0.0) for other in others), default=0.0)
        finish[name] = before + durations.get(name, 0.0)
    return max(finish.values(), default=0.0)


def busiest_repo(durations: Mapping[str, float], repo_of: Mapping[str, str]) -> tuple[str, float]:
    """Return the repository with the most work, and its work; ("", 0) if there is none."""
    work: defaultdict[str, float] = defaultdict(float)
    for name, duration in durations.items():
        if repo_of[name] != MILESTONE_REPO:
            work[repo_of[name]] += duration
    return max(work.items(), key=lambda item: item[1], default=("", 0.0))


def busiest_resource(durations: Mapping[str, float], supply: Supply) -> tuple[str, float]:
    """Return the resource that is in use for longest at full utilisation, and for how long; ("", 0) if none
    is needed.
    """
    use: defaultdict[str, float] = defaultdict(float)
    for name, needs in supply.needs.items():
        for resource, amount in needs.items():
            use[resource] += durations.get(name, 0.0) * amount / supply.capacities[resource]
    return max(use.items(), key=lambda item: item[1], default=("", 0.0))


Predecessors = Mapping[str, Collection[str]]
Levels = Sequence[Sequence[str]]
Entry = tuple[float, int, str]
"""Score, urgency, name; the smallest starts first."""
Needs = tuple[tuple[str, int], ...]

AGEING = 10
"""Ageing factor: a ready todo must have waited AGEING times longer than the difference to precede a todo with
a longer remaining path.

No todo waits for ever: a todo that becomes ready more than 10 longest paths later comes after it.
"""


DIGITS = 9
"""Digits that scores are rounded to: 0.1 + 0.2 equals 0.3, and microseconds in hours still differ."""


def score(ready_at: float, remaining: float) -> float:
    """Return the score of a ready todo; the smaller one starts first. Both arguments have the same unit of
    time.
    """
    return ready_at - AGEING * remaining


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Start and end of each todo from 0, in the unit of the durations."""

    start: Mapping[str, float]
    end: Mapping[str, float]
    ready: Mapping[str, float] = field(default_factory=dict)
    """Time from which a todo waited only for a slot, its repository or a resource."""

    @property
    def makespan(self) -> float:
        return max(self.end.values(), default=0.0)


def simulate(
    durations: Mapping[str, float],
    predecessors: Predecessors,
    repo_of: Mapping[str, str],
    *,
    slots: int,
    urgency: Mapping[str, int] | None = None,
    remaining: Mapping[str, float] | None = None,
    levels: Levels | None = None,
    supply: Supply = NOTHING_SHARED,
) -> Schedule:
    """Simulate dataflow: each todo starts once its predecessors, repository, resources and a slot permit,
    lowest `score` first.

    Todos of MILESTONE_REPO need neither slot nor repository. `remaining` is the longest path from each todo
    to the end, by default that of the durations. `urgency` breaks ties, by default the order of `durations`.

    With `levels`, they take the place of all three: a level starts when all todos of the previous one have
    ended, and its todos start in its order.
    """
    if slots < 1:
        raise ValueError("a schedule needs at least one slot")
    todos = durations
    if levels is not None:
        predecessors = _barriers(levels)
        durations = {**dict.fromkeys(predecessors, 0.0), **todos}
        remaining = dict.fromkeys(durations, 0.0)
        urgency = {name: i for i, name in enumerate(chain.from_iterable(levels))}
    order = urgency or {name: i for i, name in enumerate(durations)}
    left = remaining or _remaining(durations, predecessors)

    def entry(name: str, now: float) -> Entry:
        return round(score(now, left[name]), DIGITS), order[name], name

    found = _Simulation(durations, predecessors, repo_of, slots, entry, supply).run()
    return Schedule(
        start={name: found.start[name] for name in found.start if name in todos},
        end={name: found.end[name] for name in found.end if name in todos},
        ready={name: found.ready[name] for name in found.ready if name in todos},
    )


def _barriers(levels: Levels) -> Predecessors:
    """Return the predecessors by level: of each todo, and of a barrier between any two levels. A barrier is a
    todo that takes no time; its name is no todo's.
    """
    found: dict[str, Sequence[str]] = {}
    barrier: tuple[str, ...] = ()
    for i, level in enumerate(filter(None, levels)):
        found |= dict.fromkeys(level, barrier)
        barrier = (f"barrier {i}",)
        found[barrier[0]] = level
    return found


def _remaining(durations: Mapping[str, float], predecessors: Predecessors) -> Mapping[str, float]:
    before = {name: predecessors.get(name, ()) for name in durations}
    order = [name for name in TopologicalSorter(before).static_order() if name in durations]
    successors: defaultdict[str, list[str]] = defaultdict(list)
    for name, others in before.items():
        for other in others:
            successors[other].append(name)
    return ranks(order, successors, durations)


@dataclass(eq=False)
class _Group:
    """The ready todos of one repository with the same needs, of which either any or none could start now.

    A group is in one of three places: open, set aside while its repository is busy, or short of resources.
    """

    repo: str
    needs: Needs
    todos: list[Entry] = field(default_factory=list)
    is_open: bool = False
    """True while the group is among those that may start."""


class _Simulation:
    """One simulated run.

    A todo that ends releases only the first todo of each waiting group. So an event costs a few heap
    operations however many todos wait, also if all wait for one resource.
    """

    def __init__(
        self,
        durations: Mapping[str, float],
        predecessors: Predecessors,
        repo_of: Mapping[str, str],
        slots: int,
        entry: Callable[[str, float], Entry],
        supply: Supply,
    ) -> None:
        self._durations, self._repo_of, self._entry = durations, repo_of, entry
        self._free_slots = slots
        self._free = dict(supply.capacities)
        self._needs = {name: tuple(sorted(needs.items())) for name, needs in supply.needs.items()}
        self._missing = {name: len(set(predecessors.get(name, ()))) for name in durations}
        self._successors: defaultdict[str, list[str]] = defaultdict(list)
        for name in durations:
            for before in set(predecessors.get(name, ())):
                self._successors[before].append(name)
        self._groups: dict[tuple[str, Needs], _Group] = {}
        self._open: list[tuple[Entry, _Group]] = []
        self._set_aside: defaultdict[str, list[_Group]] = defaultdict(list)
        self._short: dict[Needs, list[tuple[Entry, _Group]]] = {}
        self._short_of: defaultdict[str, set[Needs]] = defaultdict(set)
        self._busy: set[str] = set()
        self._running: list[tuple[float, Entry]] = []
        self._ready: dict[str, float] = {}
        self._start: dict[str, float] = {}
        self._end: dict[str, float] = {}

    def run(self) -> Schedule:
        for name in [name for name, missing in self._missing.items() if not missing]:
            self._mark_ready(name, 0.0)
        self._start_ready(0.0)
        while self._running:
            now = self._running[0][0]
            while self._running and self._running[0][0] == now:
                self._finish(heappop(self._running)[1][2], now)
            self._start_ready(now)
        return Schedule(start=self._start, end=self._end, ready=self._ready)

    def _mark_ready(self, name: str, now: float) -> None:
        """Mark a todo as ready; a todo without duration (an approval) ends at once."""
        ahead = [name]
        while ahead:
            name = ahead.pop()
            self._ready[name] = now
            if not self._durations[name]:
                self._start[name] = self._end[name] = now
                ahead += self._newly_ready(name)
            elif self._repo_of[name] == MILESTONE_REPO:
                self._begin(self._entry(name, now), now)
            else:
                self._enqueue(name, now)

    def _enqueue(self, name: str, now: float) -> None:
        key = self._repo_of[name], self._needs.get(name, ())
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(*key)
        entry = self._entry(name, now)
        first = not group.todos or entry < group.todos[0]
        heappush(group.todos, entry)
        if first:
            self._offer(group)

    def _offer(self, group: _Group) -> None:
        """Offer the group for a start. An entry that is outdated because its head has changed is skipped when
        it is popped.
        """
        if group.todos:
            group.is_open = True
            heappush(self._open, (group.todos[0], group))

    def _start_ready(self, now: float) -> None:
        while self._free_slots and self._open:
            entry, group = heappop(self._open)
            if not group.is_open or not group.todos or group.todos[0] != entry:
                continue
            group.is_open = False
            if group.repo in self._busy:
                self._set_aside[group.repo].append(group)
                self._offer_short(group.needs)
            elif not self._suffices(group.needs):
                self._set_short(entry, group)
            else:
                heappop(group.todos)
                self._take(group.needs, 1)
                self._busy.add(group.repo)
                self._free_slots -= 1
                self._begin(entry, now)
                self._offer(group)
                self._offer_short(group.needs)

    def _begin(self, entry: Entry, now: float) -> None:
        name = entry[2]
        self._start[name], self._end[name] = now, now + self._durations[name]
        heappush(self._running, (self._end[name], entry))

    def _set_short(self, entry: Entry, group: _Group) -> None:
        heappush(self._short.setdefault(group.needs, []), (entry, group))
        for resource, _ in group.needs:
            self._short_of[resource].add(group.needs)

    def _offer_short(self, needs: Needs) -> None:
        """Offer the first group that is short of these resources if they suffice now; the next one follows
        when it has started.
        """
        waiting = self._short.get(needs)
        while waiting and self._suffices(needs):
            group = heappop(waiting)[1]
            if group.todos and not group.is_open:
                self._offer(group)
                return

    def _finish(self, name: str, now: float) -> None:
        repo, needs = self._repo_of[name], self._needs.get(name, ())
        if repo != MILESTONE_REPO:
            self._free_slots += 1
            self._busy.discard(repo)
            self._take(needs, -1)
            for group in self._set_aside.pop(repo, ()):
                self._offer(group)
            for short in {short for resource, _ in needs for short in self._short_of[resource]}:
                self._offer_short(short)
        for after in self._newly_ready(name):
            self._mark_ready(after, now)

    def _newly_ready(self, name: str) -> list[str]:
        for after in self._successors[name]:
            self._missing[after] -= 1
        return [after for after in self._successors[name] if not self._missing[after]]

    def _suffices(self, needs: Needs) -> bool:
        return all(self._free[resource] >= amount for resource, amount in needs)

    def _take(self, needs: Needs, times: int) -> None:
        """Take resources, or return them (-1)."""
        for resource, amount in needs:
            self._free[resource] -= times * amount
