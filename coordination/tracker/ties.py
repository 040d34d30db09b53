"""Who waits for whom, across issues, todos, plans and milestones.

What a record waits for is the planner's to say (`planner/blockers.py`); here it is asked from both sides. A cancelled
blocker and one that the file does not declare hold as well: a sweep refuses both, so nothing behind them is ready.
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
    """Of one state of the file. What takes a look at all records is worked out when it is first asked for."""

    def __init__(self, ecosystem: Ecosystem, plan: Plan | None = None) -> None:
        self._register = Register(ecosystem, plan)
        self.items: Mapping[str, Item] = self._register.items
        self._parts_of: dict[str, frozenset[str]] = {}
        self._ties: dict[str, Relation] = {}

    def waits_for(self, name: str) -> tuple[str, ...]:
        """Direct blockers, whatever their status. That a plan waits for its own todos is not among them."""
        return tuple(other for other in self._register.waits_for(name) if other not in self._parts(name))

    def held_by(self, name: str) -> tuple[str, ...]:
        """Those of its direct blockers that are not finished."""
        return tuple(other for other in self.waits_for(name) if self.holds(other))

    def holds(self, name: str) -> bool:
        return name not in self.items or self.items[name].status not in FINISHED

    def is_open(self, name: str) -> bool:
        return name in self.items and self.items[name].status in OPEN

    @cached_property
    def behind(self) -> Mapping[str, tuple[str, ...]]:
        """For each name what directly waits for it, plans for their own todos included."""
        behind: defaultdict[str, list[str]] = defaultdict(list)
        for name in self.items:
            for other in self._register.waits_for(name):
                behind[other].append(name)
        return {name: tuple(others) for name, others in behind.items()}

    def dependents(self, name: str) -> tuple[str, ...]:
        """What directly waits for it; not the plan that it is part of."""
        return tuple(other for other in self.behind.get(name, ()) if name not in self._parts(other))

    def chains(self, start: str, among: Collection[str], wanted: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
        """For each of `wanted` that waits for `start` the shortest way to it from there, over what is open of `among`."""
        came_from: dict[str, str] = {start: ""}
        ahead = deque([start])
        while ahead:
            name = ahead.popleft()
            for other in self.behind.get(name, ()):
                if other not in came_from and other in among:
                    came_from[other] = name
                    ahead.append(other)
        return {name: _way(name, came_from) for name in wanted if name in came_from and name != start}

    def before(self, names: Iterable[str]) -> set[str]:
        """These and everything open that they wait for, to the end of each chain."""
        return set(self._register.trace(names))

    def trace(self, name: str) -> Mapping[str, tuple[str, ...]]:
        return self._register.trace([name])

    def tie(self, name: str) -> Relation:
        if name not in self._ties:
            self._ties[name] = self._tie(name)
        return self._ties[name]

    def _tie(self, name: str) -> Relation:
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

    def ties(self, names: Iterable[str]) -> tuple[Relation, ...]:
        return tuple(map(self.tie, names))

    def _parts(self, name: str) -> Collection[str]:
        """The todos of a plan."""
        item = self.items[name]
        if not isinstance(item, Plan):
            return ()
        if name not in self._parts_of:
            self._parts_of[name] = frozenset(self._register.todos_of(item))
        return self._parts_of[name]


def _way(name: str, came_from: Mapping[str, str]) -> tuple[str, ...]:
    way = [name]
    while came_from[way[-1]]:
        way.append(came_from[way[-1]])
    return tuple(reversed(way))


def became_ready(before: Relations, after: Relations, touched: Iterable[str]) -> tuple[str, ...]:
    """What lost its last blocker through a change of these records, in the file's order."""
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
