"""Names of other records: what a record names, whether that is there, and who names a record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from coordination.desk.kinds import KINDS, WORK, unknown
from coordination.errors import NotFound, UsageError
from coordination.models import Dependency, Ecosystem, Issue, Milestone, Plan, Record, Todo
from coordination.nearest import did_you_mean

TO_WORK: Mapping[type[Record], tuple[str, ...]] = {
    Issue: ("dependencies", "blocking"),
    Todo: ("blocked_by", "blocking"),
    Milestone: ("dependencies",),
    Plan: (),
    Dependency: (),
}
"""Fields that name todos, issues, plans or milestones."""

TO_REPOS: Mapping[type[Record], tuple[str, ...]] = {
    Issue: ("repos",),
    Plan: ("repos",),
    Todo: ("repo",),
    Dependency: ("consumer", "provider"),
    Milestone: (),
}

Held = Issue | Plan | Todo | Dependency | Milestone


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A field of a record that names another one; `plan` is that of a milestone."""

    owner: str
    field: str
    plan: str | None = None

    def __str__(self) -> str:
        return f"{self.plan}.{self.owner}.{self.field}" if self.plan else f"{self.owner}.{self.field}"


def check_references(ecosystem: Ecosystem, after: Held, before: Held | None = None, plan: Plan | None = None) -> None:
    """Raises NotFound for a name that is new in the record and unknown to the file; UsageError for its own.

    What was loose before may stay so: files grow piece by piece.
    """
    _check(after, before, TO_REPOS, "repo", repo_names(ecosystem), "list-repos")
    if after.id in _new(after, before, TO_WORK[type(after)]):
        raise UsageError(f"{after.id} cannot wait for itself", "name another one")
    own = {m.id for m in plan.milestones} if plan else set()
    _check(after, before, TO_WORK, "todo, issue or plan", work_names(ecosystem) | own, "list-todos")
    if isinstance(after, Todo) and after.plan is not None and "plan" in _changed(after, before, ("plan",)):
        plans = [p.id for p in ecosystem.coordination.plans]
        if after.plan not in plans:
            raise unknown("plan", after.plan, plans, "list-plans")


def repo_names(ecosystem: Ecosystem) -> set[str] | None:
    """The declared ones; None where the file declares none at all, and any name may be used."""
    return {repo.name for repo in ecosystem.repos} or None


def work_names(ecosystem: Ecosystem) -> set[str]:
    """Every id that a blocker may name."""
    names = {record.id for kind in WORK for record in kind.all(ecosystem)}
    return names.union(m.id for plan in ecosystem.coordination.plans for m in plan.milestones)


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


def _check(
    after: Held,
    before: Held | None,
    fields: Mapping[type[Record], tuple[str, ...]],
    noun: str,
    known: set[str] | None,
    listed_by: str,
) -> None:
    strangers = [name for name in _new(after, before, fields[type(after)]) if known is not None and name not in known]
    if strangers and known is not None:
        words = ", ".join(f"{name!r}{did_you_mean(name, known)}" for name in strangers)
        raise NotFound(f"there is no {noun} {words}", f"see what there is: coord {listed_by}")


def _new(after: Held, before: Held | None, fields: Iterable[str]) -> dict[str, None]:
    """The names that these fields have now and had not before; each once."""
    names: dict[str, None] = {}
    for field in fields:
        old = _names(before, field) if before else ()
        names |= dict.fromkeys(name for name in _names(after, field) if name not in old)
    return names


def _changed(after: Held, before: Held | None, fields: Iterable[str]) -> list[str]:
    return [field for field in fields if before is None or getattr(after, field) != getattr(before, field)]


def _names(record: Held, field: str) -> tuple[str, ...]:
    value: str | tuple[str, ...] = getattr(record, field)
    return (value,) if isinstance(value, str) else value


def mentioned(ecosystem: Ecosystem) -> set[str]:
    """Every id that is named anywhere, declared or not."""
    return {
        name
        for record in everything(ecosystem)
        for owner, _ in _with_milestones(record)
        for _, others in named_work(owner)
        for name in others
    }
