"""Join the todos that runs execute with the records of the file.

The file says which todos there are and what is completed or cancelled; a live run says what happens now. So
an open todo that a run executes is in progress, and a completed one stays completed, except while a run of a
recurring plan has it in hand. A todo that waits for its turn in a run keeps its status, and is not ready.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from coordination.models import OPEN_TODO, Ecosystem, Todo, TodoStatus
from coordination.tracker.records import TodoInView


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


Executing = Mapping[str, InRun]
"""The todos of live runs, by id."""


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
        one = executing.get(todo.id)
        if one is not None and _is_shown(todo, one, recurring):
            shown.append(_in_progress(todo, one))
            continue
        shown.append(todo)
        if one is not None and not one.in_progress:
            queued[todo.id] = one.run_id
    return Joined(ecosystem=ecosystem.with_coordination(todos=tuple(shown)), queued=queued)


def _is_shown(todo: Todo, one: InRun, recurring: Collection[str]) -> bool:
    if not one.in_progress:
        return False
    again = todo.status is TodoStatus.COMPLETED and todo.plan in recurring and one.state != "succeeded"
    return todo.status in OPEN_TODO or again


def as_view(todo: Todo) -> TodoInView:
    """Return the todo as the type that views use."""
    return (
        todo
        if isinstance(todo, TodoInView)
        else TodoInView.model_construct(todo.model_fields_set, **dict(todo))
    )


def _in_progress(todo: Todo, one: InRun) -> TodoInView:
    in_run = {
        "run_id": one.run_id,
        "run_state": str(one.state),
        "worker": one.worker,
        "since": one.since,
        "run_waits_for": one.waits_for,
    }
    given = {**dict(todo), "status": TodoStatus.IN_PROGRESS, **in_run}
    return TodoInView.model_construct(_fields_set=todo.model_fields_set | {"status", *in_run}, **given)
