"""Filters and sort orders for lists of records; records joined with the todos that runs execute.

The file says which todos there are and what is completed or cancelled; a live run says what happens now. So
an open todo that a run executes is in progress, and a completed one stays completed, except while a run of a
recurring plan executes it. A todo that waits for its turn in a run keeps its status, and is not ready.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from coordination.errors import UsageError
from coordination.models import OPEN_TODO, Dependency, Ecosystem, Issue, Level, Plan, Todo, TodoStatus
from coordination.text import nearest
from coordination.tracker.kinds import unknown
from coordination.tracker.records import TodoInView

Wanted = str | Collection[str] | None
"""One value, several alternatives, or no filter."""
W = TypeVar("W", bound=StrEnum)
R = TypeVar("R")

PRIORITY = {level: i for i, level in enumerate(Level)}
_DIGITS = re.compile(r"(\d+)")


def as_set(wanted: Wanted) -> frozenset[str] | None:
    if wanted is None:
        return None
    return frozenset([wanted] if isinstance(wanted, str) else wanted)


def enum_values(wanted: Wanted, kind: type[W], field: str) -> frozenset[str] | None:
    """Return the wanted values of an enumeration. Raises UsageError with the valid values."""
    known = [str(member) for member in kind]
    chosen = as_set(wanted)
    if chosen is not None:
        chosen = frozenset(value.lower() for value in chosen)
    for value in sorted(chosen or ()):
        if value not in known:
            close = nearest(value, known)
            hint = f"did you mean {close}?" if close else "use one of these, or omit the filter to see all"
            raise UsageError(f"{field} must be one of {', '.join(known)}, got {value!r}", hint)
    return chosen


def known_names(
    wanted: Wanted, known: Callable[[], Iterable[str]], noun: str, listed_by: str
) -> frozenset[str] | None:
    """Return the wanted names. Raises NotFound with a suggestion."""
    chosen = as_set(wanted)
    if chosen is not None:
        all_names = set(known())
        for name in sorted(chosen - all_names):
            raise unknown(noun, name, all_names, listed_by)
    return chosen


def matching(records: Iterable[R], wanted: Mapping[str, frozenset[str] | None]) -> list[R]:
    """Return the records whose fields have one of the wanted values each; in a list field,
    any item counts.
    """
    filters = {field: values for field, values in wanted.items() if values is not None}
    return [
        r for r in records if all(_matches(getattr(r, field), values) for field, values in filters.items())
    ]


def _matches(value: Any, wanted: frozenset[str]) -> bool:
    return not wanted.isdisjoint(value) if isinstance(value, tuple) else value in wanted


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
    return tuple(
        (0, len(digits := part.lstrip("0")), digits) if part.isdecimal() else (1, part)
        for part in _DIGITS.split(name)
        if part
    )


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


def labels(ecosystem: Ecosystem) -> set[str]:
    return {label for record in _work(ecosystem) for label in record.labels}


def _work(ecosystem: Ecosystem) -> tuple[Issue | Todo, ...]:
    return (*ecosystem.coordination.issues, *ecosystem.coordination.todos)


class InRun(Protocol):
    """A todo in a live run, as the reader of runs finds it."""

    @property
    def run_id(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def worker(self) -> str | None: ...
    @property
    def since(self) -> str | None: ...
    @property
    def waits_for(self) -> str | None: ...
    @property
    def in_progress(self) -> bool: ...


SUCCEEDED = "succeeded"
"""The state of a todo that a run has done."""
Executing = Mapping[str, InRun]
"""Todos of live runs by id."""


@dataclass(frozen=True, kw_only=True)
class Joined:
    """The records of a file as views show them."""

    ecosystem: Ecosystem
    queued: Mapping[str, str] = field(default_factory=dict)
    """Todo → the live run in which it waits for its turn, so that it is not ready."""
    known: bool = True
    """False if Redis did not answer: then it is the file's view alone."""


def join(ecosystem: Ecosystem, executing: Executing | None) -> Joined:
    """Return the ecosystem with the todos of live runs; None: they are not known."""
    if not executing:
        return Joined(ecosystem=ecosystem, known=executing is not None)
    coordination = ecosystem.coordination
    recurring = {plan.id for plan in coordination.plans if plan.recurring}
    shown, queued = list[Todo](), dict[str, str]()
    for todo in coordination.todos:
        in_run = executing.get(todo.id)
        if in_run is not None and _is_shown(todo, in_run, recurring):
            shown.append(_as_in_run(todo, in_run))
            continue
        shown.append(todo)
        if in_run is not None and not in_run.in_progress:
            queued[todo.id] = in_run.run_id
    return Joined(ecosystem=ecosystem.with_coordination(todos=tuple(shown)), queued=queued)


def _is_shown(todo: Todo, in_run: InRun, recurring: Collection[str]) -> bool:
    """Return whether views show the state of the run instead of the status in the file."""
    if not in_run.in_progress:
        return False
    again = todo.status is TodoStatus.COMPLETED and todo.plan in recurring and in_run.state != SUCCEEDED
    return todo.status in OPEN_TODO or again


def as_view(todo: Todo) -> TodoInView:
    """Return the todo as the type that views use."""
    return (
        todo
        if isinstance(todo, TodoInView)
        else TodoInView.model_construct(todo.model_fields_set, **dict(todo))
    )


def _as_in_run(todo: Todo, in_run: InRun) -> TodoInView:
    """Return the todo in progress, or as completed where the run has done it: the file says so at the end of
    the run.
    """
    done = in_run.state == SUCCEEDED
    fields = {
        "status": TodoStatus.COMPLETED if done else TodoStatus.IN_PROGRESS,
        "run_id": in_run.run_id,
        "run_state": str(in_run.state),
        "worker": in_run.worker,
        "since": in_run.since,
        "run_waits_for": in_run.waits_for,
    }
    return TodoInView.model_construct(todo.model_fields_set | set(fields), **{**dict(todo), **fields})
