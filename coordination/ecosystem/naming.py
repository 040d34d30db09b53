"""Which fields of a record name other records."""

from __future__ import annotations

from collections.abc import Mapping

from coordination.models import Dependency, Issue, Milestone, Plan, Record, ResourceNeed, Todo

TO_WORK: Mapping[type[Record], tuple[str, ...]] = {
    Issue: ("dependencies", "blocking"),
    Todo: ("blocked_by", "blocking"),
    Milestone: ("dependencies",),
    Plan: (),
    Dependency: (),
}
"""Todos, issues, plans or milestones."""

TO_REPOS: Mapping[type[Record], tuple[str, ...]] = {
    Issue: ("repos",),
    Plan: ("repos",),
    Todo: ("repo",),
    Dependency: ("consumer", "provider"),
    Milestone: (),
}


def names_in(record: Record, field: str) -> tuple[str, ...]:
    value: str | tuple[str | ResourceNeed, ...] | None = getattr(record, field)
    named = (value,) if isinstance(value, str) else value or ()
    return tuple(item.name if isinstance(item, ResourceNeed) else item for item in named)
