"""Filters and sort orders for lists of records.

A filter is one value or several alternatives; several filters intersect. A value that no record could match
is refused, because an empty result would look like good news.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date, datetime
from enum import StrEnum
from typing import Any, TypeVar

from coordination.errors import UsageError
from coordination.models import Dependency, Ecosystem, Issue, Level, Plan, Todo
from coordination.text import nearest
from coordination.tracker.kinds import unknown

Wanted = str | Collection[str] | None
"""One value, several alternatives, or no filter."""
W = TypeVar("W", bound=StrEnum)
R = TypeVar("R")

PRIORITY = {level: i for i, level in enumerate(Level)}
_DIGITS = re.compile(r"(\d+)")


def values(wanted: Wanted) -> frozenset[str] | None:
    if wanted is None:
        return None
    return frozenset([wanted] if isinstance(wanted, str) else wanted)


def words(wanted: Wanted, kind: type[W], field: str) -> frozenset[str] | None:
    """Return the wanted values of an enumeration. Raises UsageError with the valid values."""
    known = [str(word) for word in kind]
    given = values(wanted)
    if given is not None:
        given = frozenset(word.lower() for word in given)
    for word in sorted(given or ()):
        if word not in known:
            close = nearest(word, known)
            hint = f"did you mean {close}?" if close else "use one of these, or omit the filter to see all"
            raise UsageError(f"{field} must be one of {', '.join(known)}, got {word!r}", hint)
    return given


def names(
    wanted: Wanted, known: Callable[[], Iterable[str]], noun: str, listed_by: str
) -> frozenset[str] | None:
    """Return the wanted names. Raises NotFound with a suggestion."""
    given = values(wanted)
    if given is not None:
        there = set(known())
        for name in sorted(given - there):
            raise unknown(noun, name, there, listed_by)
    return given


def matching(records: Iterable[R], wanted: Mapping[str, frozenset[str] | None]) -> list[R]:
    """Return the records whose fields have one of the wanted values each; in a list field,
    any item counts.
    """
    filters = {field: given for field, given in wanted.items() if given is not None}
    return [r for r in records if all(_holds(getattr(r, field), given) for field, given in filters.items())]


def _holds(value: Any, given: frozenset[str]) -> bool:
    return not given.isdisjoint(value) if isinstance(value, tuple) else value in given


def sorted_issues(issues: Iterable[Issue]) -> tuple[Issue, ...]:
    return tuple(sorted(issues, key=lambda i: (PRIORITY[i.priority], due(i.target), natural(i.id))))


def sorted_todos(todos: Iterable[Todo]) -> tuple[Todo, ...]:
    return tuple(sorted(todos, key=lambda t: (PRIORITY[t.priority], natural(t.id))))


def sorted_plans(plans: Iterable[Plan]) -> tuple[Plan, ...]:
    return tuple(sorted(plans, key=lambda p: (due(p.target), natural(p.id))))


def sorted_dependencies(dependencies: Iterable[Dependency]) -> tuple[Dependency, ...]:
    return tuple(sorted(dependencies, key=lambda d: natural(d.id)))


def natural(name: str) -> tuple[Any, ...]:
    """Return a sort key that puts TODO-2 before TODO-10."""
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in _DIGITS.split(name) if part)


def due(target: date | datetime | None) -> date:
    """Return the day as a sort key; records without a date come last."""
    if target is None:
        return date.max
    return target.date() if isinstance(target, datetime) else target


def repos_in_use(ecosystem: Ecosystem) -> set[str]:
    """Return all repositories that the file uses, declared or not, because files grow gradually."""
    coordination = ecosystem.coordination
    known = {repo.name for repo in ecosystem.repos} | {todo.repo for todo in coordination.todos}
    known.update(repo for plan in coordination.plans for repo in plan.repos)
    known.update(repo for issue in coordination.issues for repo in issue.repos)
    for dependency in coordination.dependencies:
        known.update((dependency.consumer, dependency.provider))
    return known


def assignees(ecosystem: Ecosystem) -> set[str]:
    return {record.assignee for record in _work(ecosystem) if record.assignee}


def labels(ecosystem: Ecosystem) -> set[str]:
    return {label for record in _work(ecosystem) for label in record.labels}


def _work(ecosystem: Ecosystem) -> tuple[Issue | Todo, ...]:
    return (*ecosystem.coordination.issues, *ecosystem.coordination.todos)
