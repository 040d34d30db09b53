"""Names of other records: which a record names, whether they exist, and who names it; what a record waits for and holds up."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from coordination.ecosystem.layout import TO_REPOS, TO_WORK, names_in
from coordination.errors import Conflict, NotFound, UsageError
from coordination.models import Dependency, Ecosystem, Issue, Milestone, Plan, Todo
from coordination.planner.resources import beyond
from coordination.text import did_you_mean
from coordination.tracker.kinds import DEPENDENCY, KINDS, PLAN, WORK, Kind, R
from coordination.tracker.records import Answer, Relation
from coordination.tracker.ties import Relations

Held = Issue | Plan | Todo | Dependency | Milestone


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A field of a record that names another one; `plan` is that of a milestone."""

    owner: str
    field: str
    plan: str | None = None

    def __str__(self) -> str:
        return f"{self.plan}.{self.owner}.{self.field}" if self.plan else f"{self.owner}.{self.field}"


class Names:
    """What there is to be named; it grows with what a deed adds."""

    def __init__(self, ecosystem: Ecosystem) -> None:
        self._ecosystem = ecosystem

    @cached_property
    def repos(self) -> set[str]:
        """The declared ones; none where the file declares none at all, and any name may be used."""
        return {repo.name for repo in self._ecosystem.repos}

    @cached_property
    def capacities(self) -> Mapping[str, int]:
        """Of the declared resources; none where the file declares none at all, and any name may be used."""
        return self._ecosystem.capacities()

    @cached_property
    def plans(self) -> set[str]:
        return {plan.id for plan in self._ecosystem.coordination.plans}

    @cached_property
    def work(self) -> set[str]:
        """Issues, plans and todos share one space of ids."""
        return {record.id for kind in WORK for record in kind.all(self._ecosystem)}

    @cached_property
    def dependencies(self) -> set[str]:
        return {dependency.id for dependency in self._ecosystem.coordination.dependencies}

    @cached_property
    def milestones(self) -> set[str]:
        return {m.id for plan in self._ecosystem.coordination.plans for m in plan.milestones}

    def of(self, kind: Kind[R]) -> set[str]:
        """The space of ids that the kind has its own from."""
        return self.dependencies if kind.noun == DEPENDENCY.noun else self.work

    def add(self, kind: Kind[R], name: str) -> None:
        self.of(kind).add(name)
        if kind.noun == PLAN.noun:
            self.plans.add(name)

    def check_free(self, kind: Kind[R], name: str) -> None:
        """Raises Conflict."""
        check_free(name, self.of(kind))


def check_free(name: str, taken: Collection[str]) -> None:
    if name in taken:
        raise Conflict(f"there is a record with the id {name} already", "leave the id out to get the next free one")


def check_references(names: Names, after: Held, before: Held | None = None, plan: Plan | None = None) -> None:
    """Raises NotFound for a name that is new in the record and unknown to the file; UsageError for its own.

    What was loose before may stay so: files grow piece by piece.
    """
    repos = _new(after, before, TO_REPOS[type(after)])
    if repos and names.repos:
        _check(repos, names.repos, "repo", "list-repos")
    if work := added_work(after, before):
        if after.id in work:
            raise UsageError(f"{after.id} cannot wait for itself", "name another one")
        own = {m.id for m in plan.milestones} if plan else set()
        strangers = [name for name in work if name not in names.work]
        if strangers:
            noun = f"milestone of {plan.id}, todo, issue or plan" if plan else "todo, issue or plan"
            _check(strangers, names.work | names.milestones | own, noun, "list-todos")
    if isinstance(after, Todo) and (plans := _new(after, before, ("plan",))):
        _check(plans, names.plans, "plan", "list-plans")
    if isinstance(after, Dependency) and _new(after, before, ("consumer", "provider", "version_constraint")):
        _check_sense(after)
    if names.capacities and isinstance(after, Todo):
        _check_resources(names.capacities, after, before)


def _check_sense(after: Dependency) -> None:
    from coordination.dependencies.mistakes import senseless  # with what reads versions: 30 ms, for those who need it

    for why in senseless(after):
        raise UsageError(why, "name another repository, or another constraint")


def _check_resources(capacities: Mapping[str, int], after: Todo, before: Held | None) -> None:
    _check(_new(after, before, ("resources",)), capacities, "resource", "list-resources")
    there = before.resources if isinstance(before, Todo) else ()
    for need in after.resources:
        if need not in there and need.amount > capacities.get(need.name, need.amount):
            words = beyond(need.name, need.amount, capacities)
            raise UsageError(f"{after.id} {words}", "lower the amount, or raise the capacity in ecosystem.yaml")


def added_work(after: Held, before: Held | None) -> dict[str, None]:
    """The todos, issues, plans and milestones that the record names and did not name before."""
    return _new(after, before, TO_WORK[type(after)])


def named(record: Held) -> tuple[object, ...]:
    """Everything that decides what it waits for and what waits for it."""
    return (getattr(record, "plan", None), *(others for _, others in named_work(record)))


def named_work(record: Held) -> Iterator[tuple[str, tuple[str, ...]]]:
    for field in TO_WORK[type(record)]:
        yield field, getattr(record, field)


def naming(ecosystem: Ecosystem, names: Iterable[str]) -> Iterator[tuple[Reference, Held]]:
    """Every place where one of these is named, a plan by its todos included; in the file's order."""
    wanted = frozenset(names)
    for record in everything(ecosystem):
        for owner, plan in _with_milestones(record):
            for field, others in named_work(owner):
                if not wanted.isdisjoint(others):
                    yield Reference(owner=owner.id, field=field, plan=plan), owner
        if isinstance(record, Todo) and record.plan in wanted:
            yield Reference(owner=record.id, field="plan"), record


def everything(ecosystem: Ecosystem) -> Iterator[Issue | Plan | Todo | Dependency]:
    for kind in KINDS:
        yield from kind.all(ecosystem)


def _with_milestones(record: Held) -> Iterator[tuple[Held, str | None]]:
    yield record, None
    if isinstance(record, Plan):
        for milestone in record.milestones:
            yield milestone, record.id


def _check(names: Iterable[str], known: Collection[str], noun: str, listed_by: str) -> None:
    if strangers := [name for name in names if name not in known]:
        words = ", ".join(f"{name!r}{did_you_mean(name, known)}" for name in strangers)
        raise NotFound(f"there is no {noun} {words}", f"see what there is: coord {listed_by}")


def _new(after: Held, before: Held | None, fields: Iterable[str]) -> dict[str, None]:
    """The names that these fields have now and had not before; each once."""
    names: dict[str, None] = {}
    for field in fields:
        old = names_in(before, field) if before else ()
        names |= dict.fromkeys(name for name in names_in(after, field) if name not in old)
    return names


def mentioned(ecosystem: Ecosystem) -> set[str]:
    """Every id that is named anywhere, declared or not."""
    return {
        name
        for record in everything(ecosystem)
        for owner, _ in _with_milestones(record)
        for _, others in named_work(owner)
        for name in others
    }


DEPTH = 4
"""Further than that a chain is asked for where it goes on."""


class Link(Relation):
    behind: tuple[Link, ...] = ()
    """Going on in the same direction, as long as it is open; what stands elsewhere already is not gone into again."""


class Chains(Answer):
    waits_for: tuple[Link, ...]
    holds_up: tuple[Link, ...]


def chains_of(ties: Relations, name: str) -> Chains:
    """The direct ones all; further away only what is open."""
    return Chains(
        waits_for=_links(ties, ties.waits_for(name), ties.held_by, {name}, DEPTH),
        holds_up=_links(ties, ties.dependents(name), lambda other: _open(ties, ties.dependents(other)), {name}, DEPTH),
    )


def _open(ties: Relations, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if ties.is_open(name))


def _links(
    ties: Relations, names: Iterable[str], further: Callable[[str], Iterable[str]], seen: set[str], depth: int
) -> tuple[Link, ...]:
    there = list(names)
    new = [name for name in there if name not in seen and ties.is_open(name)]
    seen.update(new)
    behind = {name: _links(ties, further(name), further, seen, depth - 1) for name in new} if depth > 1 else {}
    return tuple(Link(**dict(ties.tie(name)), behind=behind.get(name, ())) for name in there)
