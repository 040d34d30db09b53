"""The least that any schedule could take. Pure.

When each todo of a run would start and end. Pure: no I/O, no clock, no networkx.

List scheduling (Graham 1969) by the longest remaining path (HLFET: Adam, Chandy, Dickson 1974), with ageing: whenever a slot is
free, the most urgent ready todo whose repo is free, and whose resources suffice, takes it. Who cannot start lets the next one
by. A run's todos on one repo go one at a time, since they share its worktree.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from heapq import heappop, heappush

from coordination.planner.gates import MILESTONE_REPO
from coordination.planner.paths import ranks
from coordination.planner.resources import NOTHING_SHARED, Supply


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


Predecessors = Mapping[str, Collection[str]]
Entry = tuple[float, int, str]
"""Score, urgency, name: the smallest goes first."""
Needs = tuple[tuple[str, int], ...]

AGEING = 10
"""So much longer a ready todo must have waited to go before one whose remaining path is one longer. Neither is ever passed
over for ever: what becomes ready later than 10 longest paths after a todo goes behind it."""


DIGITS = 9
"""So that 0.1 + 0.2 and 0.3 are equals, and microseconds in hours are not."""


def score(ready_at: float, remaining: float) -> float:
    """Of two that are ready, the one with the smaller score goes first; both in one unit of time."""
    return ready_at - AGEING * remaining


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When each todo starts and ends, in the unit of the durations, from 0."""

    start: Mapping[str, float]
    end: Mapping[str, float]
    ready: Mapping[str, float] = field(default_factory=dict)
    """When nothing but a slot, its repo or a resource held it up any more."""

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
    supply: Supply = NOTHING_SHARED,
) -> Schedule:
    """The dataflow strategy: each todo starts as soon as its predecessors, its repo, its resources and a slot let it, the
    smallest `score` first. What is done NOWHERE needs neither slot nor repo.

    `remaining`: the longest path from each todo to the end, as it is believed to be; by default as the durations have it.
    `urgency` decides between equals; without one, the order of `durations` does.
    """
    if slots < 1:
        raise ValueError("a schedule needs at least one slot")
    order = urgency or {name: i for i, name in enumerate(durations)}
    left = remaining or _remaining(durations, predecessors)

    def entry(name: str, now: float) -> Entry:
        return round(score(now, left[name]), DIGITS), order[name], name

    return _Clock(durations, predecessors, repo_of, slots, entry, supply).run()


def simulate_levels(
    durations: Mapping[str, float],
    levels: Iterable[Sequence[str]],
    repo_of: Mapping[str, str],
    *,
    slots: int,
    supply: Supply = NOTHING_SHARED,
) -> Schedule:
    """The levels strategy: no todo of a level starts before all of the earlier level have ended. Within a level its order counts:
    all of it is ready at once.
    """
    ready: dict[str, float] = {}
    start: dict[str, float] = {}
    end: dict[str, float] = {}
    now = 0.0
    for level in levels:
        order = {name: i for i, name in enumerate(level)}
        hours, equal = {name: durations[name] for name in level}, dict.fromkeys(level, 0.0)
        part = simulate(hours, {}, repo_of, slots=slots, urgency=order, remaining=equal, supply=supply)
        ready |= dict.fromkeys(level, now)
        start |= {name: now + at for name, at in part.start.items()}
        end |= {name: now + at for name, at in part.end.items()}
        now += part.makespan
    return Schedule(start=start, end=end, ready=ready)


def _remaining(durations: Mapping[str, float], predecessors: Predecessors) -> Mapping[str, float]:
    before = {name: predecessors.get(name, ()) for name in durations}
    order = [name for name in TopologicalSorter(before).static_order() if name in durations]
    successors: defaultdict[str, list[str]] = defaultdict(list)
    for name, others in before.items():
        for other in others:
            successors[other].append(name)
    return ranks(order, successors, durations)


@dataclass(eq=False)
class _Line:
    """The ready todos of one repo with the same needs: either any of them could start now, or none. It stands in one of three
    places: among those to be tried, aside with its busy repo, or with those that are short of the same.
    """

    repo: str
    needs: Needs
    todos: list[Entry] = field(default_factory=list)
    is_open: bool = False
    """Whether it is among those to be tried."""


class _Clock:
    """One simulated run. What ends lets in only the first of each line that it held up, so that an event costs a few moves on heaps
    however many wait, also where all of them wait for one resource.
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
        self._lines: dict[tuple[str, Needs], _Line] = {}
        self._open: list[tuple[Entry, _Line]] = []
        self._aside: defaultdict[str, list[_Line]] = defaultdict(list)
        self._short: dict[Needs, list[tuple[Entry, _Line]]] = {}
        self._short_of: defaultdict[str, set[Needs]] = defaultdict(set)
        self._busy: set[str] = set()
        self._running: list[tuple[float, Entry]] = []
        self._ready: dict[str, float] = {}
        self._start: dict[str, float] = {}
        self._end: dict[str, float] = {}

    def run(self) -> Schedule:
        for name in [name for name, missing in self._missing.items() if not missing]:
            self._let_begin(name, 0.0)
        self._fill(0.0)
        while self._running:
            now = self._running[0][0]
            while self._running and self._running[0][0] == now:
                self._finish(heappop(self._running)[1][2], now)
            self._fill(now)
        return Schedule(start=self._start, end=self._end, ready=self._ready)

    def _let_begin(self, name: str, now: float) -> None:
        """What takes no time (an approval) is over at once."""
        ahead = [name]
        while ahead:
            name = ahead.pop()
            self._ready[name] = now
            if not self._durations[name]:
                self._start[name] = self._end[name] = now
                ahead += self._freed_by(name)
            elif self._repo_of[name] == MILESTONE_REPO:
                self._begin(self._entry(name, now), now)
            else:
                self._line_up(name, now)

    def _line_up(self, name: str, now: float) -> None:
        key = self._repo_of[name], self._needs.get(name, ())
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(*key)
        entry = self._entry(name, now)
        first = not line.todos or entry < line.todos[0]
        heappush(line.todos, entry)
        if first:
            self._try(line)

    def _try(self, line: _Line) -> None:
        """An entry of before that its head has changed since is passed over when it comes up."""
        if line.todos:
            line.is_open = True
            heappush(self._open, (line.todos[0], line))

    def _fill(self, now: float) -> None:
        while self._free_slots and self._open:
            entry, line = heappop(self._open)
            if not line.is_open or not line.todos or line.todos[0] != entry:
                continue
            line.is_open = False
            if line.repo in self._busy:
                self._aside[line.repo].append(line)
                self._try_short(line.needs)
            elif not self._suffices(line.needs):
                self._put_short(entry, line)
            else:
                heappop(line.todos)
                self._take(line.needs, 1)
                self._busy.add(line.repo)
                self._free_slots -= 1
                self._begin(entry, now)
                self._try(line)
                self._try_short(line.needs)

    def _begin(self, entry: Entry, now: float) -> None:
        name = entry[2]
        self._start[name], self._end[name] = now, now + self._durations[name]
        heappush(self._running, (self._end[name], entry))

    def _put_short(self, entry: Entry, line: _Line) -> None:
        heappush(self._short.setdefault(line.needs, []), (entry, line))
        for what, _ in line.needs:
            self._short_of[what].add(line.needs)

    def _try_short(self, needs: Needs) -> None:
        """The first of those that are short of this, if there is enough by now; it is asked again when that one has gone."""
        waiting = self._short.get(needs)
        while waiting and self._suffices(needs):
            line = heappop(waiting)[1]
            if line.todos and not line.is_open:
                self._try(line)
                return

    def _finish(self, name: str, now: float) -> None:
        repo, needs = self._repo_of[name], self._needs.get(name, ())
        if repo != MILESTONE_REPO:
            self._free_slots += 1
            self._busy.discard(repo)
            self._take(needs, -1)
            for line in self._aside.pop(repo, ()):
                self._try(line)
            for group in {group for what, _ in needs for group in self._short_of[what]}:
                self._try_short(group)
        for after in self._freed_by(name):
            self._let_begin(after, now)

    def _freed_by(self, name: str) -> list[str]:
        for after in self._successors[name]:
            self._missing[after] -= 1
        return [after for after in self._successors[name] if not self._missing[after]]

    def _suffices(self, needs: Needs) -> bool:
        return all(self._free[what] >= amount for what, amount in needs)

    def _take(self, needs: Needs, times: int) -> None:
        """Or gives back (-1)."""
        for what, amount in needs:
            self._free[what] -= times * amount
