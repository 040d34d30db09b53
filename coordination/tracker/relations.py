"""Dependencies between issues, todos, plans and milestones, in both directions.

`planner/blockers.py` defines what a record waits for. A cancelled or undeclared blocker blocks, too: a sweep
refuses both, so nothing behind them is ready.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from coordination.ecosystem.layout import TO_REPOS, TO_WORK, names_in
from coordination.errors import Conflict, UsageError
from coordination.frozen import FrozenModel
from coordination.models import Dependency, Ecosystem, Issue, Milestone, Plan, Todo
from coordination.planner.blockers import FINISHED, Item, Register
from coordination.planner.schedule import capacity_exceeded
from coordination.text import require_known
from coordination.tracker.kinds import (
    DEPENDENCY,
    KINDS,
    OPEN,
    PLAN,
    WORK,
    Kind,
    R,
    kind_of,
    repos_of,
    title_of,
)
from coordination.tracker.records import Relation


class Relations:
    """Relations in one state of the file. Expensive ones are computed on first use."""

    def __init__(self, ecosystem: Ecosystem, plan: Plan | None = None) -> None:
        self._register = Register(ecosystem, plan)
        self.items: Mapping[str, Item] = self._register.items
        self._todos_of_plan: dict[str, frozenset[str]] = {}
        self._descriptions: dict[str, Relation] = {}

    def waits_for(self, name: str) -> tuple[str, ...]:
        """Return the direct blockers, whatever their status; a plan's own todos are excluded."""
        return tuple(other for other in self._register.waits_for(name) if other not in self._todos_of(name))

    def held_by(self, name: str) -> tuple[str, ...]:
        """Return the direct blockers that are not finished."""
        return tuple(other for other in self.waits_for(name) if self.holds(other))

    def holds(self, name: str) -> bool:
        """Return whether the record keeps its dependents waiting: it is not finished, or not declared."""
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
        return tuple(other for other in self.behind.get(name, ()) if name not in self._todos_of(other))

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

    def _todos_of(self, name: str) -> Collection[str]:
        """Return the todos of a plan; nothing for another record."""
        item = self.items[name]
        if not isinstance(item, Plan):
            return ()
        if name not in self._todos_of_plan:
            self._todos_of_plan[name] = frozenset(self._register.todos_of(item))
        return self._todos_of_plan[name]


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


AnyRecord = Issue | Plan | Todo | Dependency | Milestone


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A field of a record that names another one; `plan` is set for the field of a milestone."""

    owner: str
    field: str
    plan: str | None = None

    def __str__(self) -> str:
        return f"{self.plan}.{self.owner}.{self.field}" if self.plan else f"{self.owner}.{self.field}"


class Names:
    """Names that a record may refer to, including those that the operation has added."""

    def __init__(self, ecosystem: Ecosystem) -> None:
        self._ecosystem = ecosystem

    @cached_property
    def repos(self) -> set[str]:
        """Declared repositories; if the file declares none, any name is valid."""
        return {repo.name for repo in self._ecosystem.repos}

    @cached_property
    def capacities(self) -> Mapping[str, int]:
        """Capacities of declared resources; if the file declares none, any name is valid."""
        return self._ecosystem.capacities()

    @cached_property
    def plans(self) -> set[str]:
        return {plan.id for plan in self._ecosystem.coordination.plans}

    @cached_property
    def work(self) -> set[str]:
        """Ids of issues, plans and todos, which share one id space."""
        return {record.id for kind in WORK for record in kind.all(self._ecosystem)}

    @cached_property
    def dependencies(self) -> set[str]:
        return {dependency.id for dependency in self._ecosystem.coordination.dependencies}

    @cached_property
    def milestones(self) -> set[str]:
        return {m.id for plan in self._ecosystem.coordination.plans for m in plan.milestones}

    def of(self, kind: Kind[R]) -> set[str]:
        """Return the ids of the id space that the kind belongs to."""
        return self.dependencies if kind.noun == DEPENDENCY.noun else self.work

    def add(self, kind: Kind[R], name: str) -> None:
        self.of(kind).add(name)
        if kind.noun == PLAN.noun:
            self.plans.add(name)

    def check_free(self, kind: Kind[R], name: str) -> None:
        """Raise Conflict if the id is in use."""
        check_free(name, self.of(kind))


def check_free(name: str, taken: Collection[str]) -> None:
    if name in taken:
        raise Conflict(
            f"there is a record with the id {name} already", "leave the id out to get the next free one"
        )


def check_references(
    names: Names, after: AnyRecord, before: AnyRecord | None = None, plan: Plan | None = None
) -> None:
    """Raise NotFound if the record newly names an unknown record, UsageError if it names itself.

    Unknown names that it had before are accepted, because files grow gradually.
    """
    repos = _added_names(after, before, TO_REPOS[type(after)])
    if repos and names.repos:
        require_known(repos, names.repos, "repo", "repo list")
    if work := added_work(after, before):
        if after.id in work:
            raise UsageError(f"{after.id} cannot wait for itself", "name another one")
        own = {m.id for m in plan.milestones} if plan else set()
        unknown_names = [name for name in work if name not in names.work]
        if unknown_names:
            noun = "todo, issue, plan or own milestone" if plan else "todo, issue or plan"
            require_known(unknown_names, names.work | names.milestones | own, noun, "todo list")
    if isinstance(after, Todo) and (plans := _added_names(after, before, ("plan",))):
        require_known(plans, names.plans, "plan", "plan list")
    if isinstance(after, Dependency) and _added_names(
        after, before, ("consumer", "provider", "version_constraint")
    ):
        _check_dependency(after)
    if names.capacities and isinstance(after, Todo):
        _check_resources(names.capacities, after, before)


def _check_dependency(after: Dependency) -> None:
    from coordination.dependencies.probes import invalid_fields  # takes 30 ms

    for why in invalid_fields(after):
        raise UsageError(why, "name another repository, or another constraint")


def _check_resources(capacities: Mapping[str, int], after: Todo, before: AnyRecord | None) -> None:
    require_known(_added_names(after, before, ("resources",)), capacities, "resource", "resource list")
    old_needs = before.resources if isinstance(before, Todo) else ()
    for need in after.resources:
        if need not in old_needs and need.amount > capacities.get(need.name, need.amount):
            excess = capacity_exceeded(need.name, need.amount, capacities)
            raise UsageError(
                f"{after.id} {excess}", "lower the amount, or raise the capacity in ecosystem.yaml"
            )


def added_work(after: AnyRecord, before: AnyRecord | None) -> dict[str, None]:
    """Return the todos, issues, plans and milestones that the record newly names."""
    return _added_names(after, before, TO_WORK[type(after)])


def reference_values(record: AnyRecord) -> tuple[object, ...]:
    """Return all values that determine its blockers and dependents."""
    return (getattr(record, "plan", None), *(others for _, others in work_references(record)))


def work_references(record: AnyRecord) -> Iterator[tuple[str, tuple[str, ...]]]:
    # A todo may be the one of a view, which is of a class of its own.
    for field in TO_WORK[Todo if isinstance(record, Todo) else type(record)]:
        yield field, getattr(record, field)


def references_to(ecosystem: Ecosystem, names: Iterable[str]) -> Iterator[tuple[Reference, AnyRecord]]:
    """Yield every field that names one of these, including a todo's `plan`, in the file's order."""
    searched = frozenset(names)
    for record in all_records(ecosystem):
        for owner, plan in _with_milestones(record):
            for field, others in work_references(owner):
                if not searched.isdisjoint(others):
                    yield Reference(owner=owner.id, field=field, plan=plan), owner
        if isinstance(record, Todo) and record.plan in searched:
            yield Reference(owner=record.id, field="plan"), record


def all_records(ecosystem: Ecosystem) -> Iterator[Issue | Plan | Todo | Dependency]:
    for kind in KINDS:
        yield from kind.all(ecosystem)


def _with_milestones(record: AnyRecord) -> Iterator[tuple[AnyRecord, str | None]]:
    yield record, None
    if isinstance(record, Plan):
        for milestone in record.milestones:
            yield milestone, record.id


def _added_names(after: AnyRecord, before: AnyRecord | None, fields: Iterable[str]) -> dict[str, None]:
    """Return the names that these fields have now and did not have before, each once."""
    names: dict[str, None] = {}
    for field in fields:
        old = names_in(before, field) if before else ()
        names |= dict.fromkeys(name for name in names_in(after, field) if name not in old)
    return names


def referenced_ids(ecosystem: Ecosystem) -> set[str]:
    """Return every id that a record names, declared or not."""
    return {
        name
        for record in all_records(ecosystem)
        for owner, _ in _with_milestones(record)
        for _, others in work_references(owner)
        for name in others
    }


DEPTH = 4
"""Length of the chains that are shown."""


class Link(Relation):
    """A blocker or dependent, with the records behind it."""

    behind: tuple[Link, ...] = ()
    """Further records in the same direction, while they are open; a record that is shown elsewhere is not
    expanded again.
    """


class Chains(FrozenModel):
    """The blockers and the dependents of a record."""

    waits_for: tuple[Link, ...]
    holds_up: tuple[Link, ...]


def chains_of(relations: Relations, name: str) -> Chains:
    """Return all direct blockers and dependents, and beyond them only open records."""
    return Chains(
        waits_for=_links(relations, relations.waits_for(name), relations.held_by, {name}, DEPTH),
        holds_up=_links(
            relations,
            relations.dependents(name),
            lambda other: _open(relations, relations.dependents(other)),
            {name},
            DEPTH,
        ),
    )


def _open(relations: Relations, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if relations.is_open(name))


def _links(
    relations: Relations,
    names: Iterable[str],
    further: Callable[[str], Iterable[str]],
    seen: set[str],
    depth: int,
) -> tuple[Link, ...]:
    linked = list(names)
    new = [name for name in linked if name not in seen and relations.is_open(name)]
    seen.update(new)
    behind = (
        {name: _links(relations, further(name), further, seen, depth - 1) for name in new}
        if depth > 1
        else {}
    )
    return tuple(Link(**dict(relations.describe(name)), behind=behind.get(name, ())) for name in linked)
