"""Dependencies between issues, todos, plans and milestones, in both directions.

`planner/blockers.py` defines what a record waits for. A cancelled or undeclared blocker blocks, too: a sweep
refuses both, so nothing behind them is ready.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property

from coordination.models import Ecosystem, Plan, Todo
from coordination.planner.blockers import FINISHED, Item, Register
from coordination.tracker.kinds import OPEN, kind_of, repos_of, title_of
from coordination.tracker.records import Relation


class Relations:
    """Relations in one state of the file. Expensive ones are computed on first use."""

    def __init__(self, ecosystem: Ecosystem, plan: Plan | None = None) -> None:
        self._register = Register(ecosystem, plan)
        self.items: Mapping[str, Item] = self._register.items
        self._parts_of: dict[str, frozenset[str]] = {}
        self._descriptions: dict[str, Relation] = {}

    def waits_for(self, name: str) -> tuple[str, ...]:
        """Return the direct blockers, whatever their status; a plan's own todos are excluded."""
        return tuple(other for other in self._register.waits_for(name) if other not in self._parts(name))

    def held_by(self, name: str) -> tuple[str, ...]:
        """Return the direct blockers that are not finished."""
        return tuple(other for other in self.waits_for(name) if self.holds(other))

    def holds(self, name: str) -> bool:
        return name not in self.items or self.items[name].status not in FINISHED

    def is_open(self, name: str) -> bool:
        return name in self.items and self.items[name].status in OPEN

    @cached_property
    def behind(self) -> Mapping[str, tuple[str, ...]]:
        """Direct dependents by name, including plans for their own todos."""
        behind: defaultdict[str, list[str]] = defaultdict(list)
        for name in self.items:
            for other in self._register.waits_for(name):
                behind[other].append(name)
        return {name: tuple(others) for name, others in behind.items()}

    def dependents(self, name: str) -> tuple[str, ...]:
        """Return the direct dependents, without the plan that the record belongs to."""
        return tuple(other for other in self.behind.get(name, ()) if name not in self._parts(other))

    def chains(
        self, start: str, among: Collection[str], wanted: Iterable[str]
    ) -> Mapping[str, tuple[str, ...]]:
        """Return, for each of `wanted` that depends on `start`, the shortest path from `start` over open
        records of `among`.
        """
        predecessors: dict[str, str] = {start: ""}
        ahead = deque([start])
        while ahead:
            name = ahead.popleft()
            for other in self.behind.get(name, ()):
                if other not in predecessors and other in among:
                    predecessors[other] = name
                    ahead.append(other)
        return {name: _path(name, predecessors) for name in wanted if name in predecessors and name != start}

    def before(self, names: Iterable[str]) -> set[str]:
        """Return these records and all open ones that they wait for, transitively."""
        return set(self._register.trace(names))

    def trace(self, name: str) -> Mapping[str, tuple[str, ...]]:
        return self._register.trace([name])

    def describe(self, name: str) -> Relation:
        if name not in self._descriptions:
            self._descriptions[name] = self._describe(name)
        return self._descriptions[name]

    def _describe(self, name: str) -> Relation:
        item = self.items.get(name)
        if item is None:
            return Relation(id=name, kind="unknown")
        plan = item.plan if isinstance(item, Todo) else None
        return Relation(
            id=name,
            kind=kind_of(item),
            title=title_of(item),
            status=item.status,
            repos=repos_of(item),
            plan=plan,
            holds=self.holds(name),
        )

    def describe_all(self, names: Iterable[str]) -> tuple[Relation, ...]:
        return tuple(map(self.describe, names))

    def _parts(self, name: str) -> Collection[str]:
        """Return the todos of a plan."""
        item = self.items[name]
        if not isinstance(item, Plan):
            return ()
        if name not in self._parts_of:
            self._parts_of[name] = frozenset(self._register.todos_of(item))
        return self._parts_of[name]


def _path(name: str, predecessors: Mapping[str, str]) -> tuple[str, ...]:
    path = [name]
    while predecessors[path[-1]]:
        path.append(predecessors[path[-1]])
    return tuple(reversed(path))


def became_ready(before: Relations, after: Relations, touched: Iterable[str]) -> tuple[str, ...]:
    """Return the records that lost their last blocker through changes of the `touched` records, in the file's
    order.
    """
    known = [name for name in touched if name in before.items]
    candidates = set(known).union(*(before.dependents(name) for name in known))
    return tuple(
        name
        for name in after.items
        if name in candidates
        and name in before.items
        and after.is_open(name)
        and before.held_by(name)
        and not after.held_by(name)
    )
