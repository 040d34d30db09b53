"""When each todo of a run would start and end. Pure: no I/O, no clock, no networkx.

List scheduling (Graham 1969) by the longest remaining path (HLFET: Adam, Chandy, Dickson 1974): whenever a slot is free, the most
urgent ready todo whose repo is free, and whose resources suffice, takes it. A run's todos on one repo go one at a time, since they
share its worktree.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from coordination.planner.supply import NOTHING_SHARED, Supply

Predecessors = Mapping[str, Collection[str]]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When each todo starts and ends, in the unit of the durations, from 0."""

    start: Mapping[str, float]
    end: Mapping[str, float]

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
    supply: Supply = NOTHING_SHARED,
) -> Schedule:
    """The dataflow strategy: each todo starts as soon as its predecessors, its repo, its resources and a slot let it, the
    smallest `urgency` first. Without one, the order of `durations` counts.
    """
    if slots < 1:
        raise ValueError("a schedule needs at least one slot")
    order = urgency or {name: i for i, name in enumerate(durations)}
    return _Clock(durations, predecessors, repo_of, slots, order, supply).run()


def simulate_levels(
    durations: Mapping[str, float],
    levels: Iterable[Sequence[str]],
    repo_of: Mapping[str, str],
    *,
    slots: int,
    supply: Supply = NOTHING_SHARED,
) -> Schedule:
    """The levels strategy: no todo of a level starts before all of the earlier level have ended."""
    start: dict[str, float] = {}
    end: dict[str, float] = {}
    now = 0.0
    for level in levels:
        part = simulate({name: durations[name] for name in level}, {}, repo_of, slots=slots, supply=supply)
        start |= {name: now + at for name, at in part.start.items()}
        end |= {name: now + at for name, at in part.end.items()}
        now += part.makespan
    return Schedule(start=start, end=end)


class _Clock:
    """One simulated run. Ready todos stand in one heap; one whose repo is busy waits aside in the repo's own heap, and
    the end of a todo puts back only the most urgent of those: each todo moves a few times, whatever the width. Those that lack
    a resource are looked at again whenever some is given back.
    """

    def __init__(
        self,
        durations: Mapping[str, float],
        predecessors: Predecessors,
        repo_of: Mapping[str, str],
        slots: int,
        urgency: Mapping[str, int],
        supply: Supply,
    ) -> None:
        self._durations, self._repo_of, self._urgency = durations, repo_of, urgency
        self._free_slots = slots
        self._needs, self._free = supply.needs, dict(supply.capacities)
        self._short: list[tuple[int, str]] = []
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
        for name in [name for name, missing in self._missing.items() if not missing]:
            self._let_begin(name, 0.0)
        self._fill(0.0)
        while self._running:
            now = self._running[0][0]
            while self._running and self._running[0][0] == now:
                self._finish(heappop(self._running)[2], now)
            self._fill(now)
        return Schedule(start=self._start, end=self._end)

    def _fill(self, now: float) -> None:
        while self._free_slots and self._ready:
            urgency, name = heappop(self._ready)
            repo = self._repo_of[name]
            if repo in self._busy:
                heappush(self._aside[repo], (urgency, name))
                continue
            if any(self._free[what] < amount for what, amount in self._needs.get(name, {}).items()):
                self._short.append((urgency, name))
                continue
            self._use(name, 1)
            self._busy.add(repo)
            self._free_slots -= 1
            self._start[name], self._end[name] = now, now + self._durations[name]
            heappush(self._running, (self._end[name], urgency, name))

    def _let_begin(self, name: str, now: float) -> None:
        """What takes no time (an approval) needs neither a slot nor its repo."""
        ahead = [name]
        while ahead:
            name = ahead.pop()
            if self._durations[name]:
                heappush(self._ready, (self._urgency[name], name))
            else:
                self._start[name] = self._end[name] = now
                ahead += self._freed_by(name)

    def _freed_by(self, name: str) -> list[str]:
        for after in self._successors[name]:
            self._missing[after] -= 1
        return [after for after in self._successors[name] if not self._missing[after]]

    def _finish(self, name: str, now: float) -> None:
        repo = self._repo_of[name]
        self._free_slots += 1
        self._busy.discard(repo)
        if self._use(name, -1):
            for entry in self._short:
                heappush(self._ready, entry)
            self._short.clear()
        if self._aside[repo]:
            heappush(self._ready, heappop(self._aside[repo]))
        for after in self._freed_by(name):
            self._let_begin(after, now)

    def _use(self, name: str, times: int) -> bool:
        """Takes what it needs, or gives it back (-1). Whether that is anything."""
        needs = self._needs.get(name, {})
        for what, amount in needs.items():
            self._free[what] -= times * amount
        return bool(needs)
