"""Join the todos that runs execute with the records of the file."""

from __future__ import annotations

from collections.abc import Mapping

from coordination.models import OPEN_TODO, Ecosystem, Todo, TodoStatus
from coordination.tracker.records import TodoInView

Executing = Mapping[str, str]
"""Id of the live run that executes a todo, by todo."""


def in_view(ecosystem: Ecosystem, executing: Executing) -> Ecosystem:
    """Return the ecosystem with these todos in progress, except those that the file shows as finished."""
    if not executing:
        return ecosystem
    todos = ecosystem.coordination.todos
    return ecosystem.with_coordination(
        todos=tuple(
            _in_progress(todo, executing[todo.id])
            if todo.id in executing and todo.status in OPEN_TODO
            else todo
            for todo in todos
        )
    )


def as_view(todo: Todo) -> TodoInView:
    """Return the todo as the type that views use."""
    return (
        todo
        if isinstance(todo, TodoInView)
        else TodoInView.model_construct(todo.model_fields_set, **dict(todo))
    )


def _in_progress(todo: Todo, run_id: str) -> TodoInView:
    given = {**dict(todo), "status": TodoStatus.IN_PROGRESS, "run_id": run_id}
    return TodoInView.model_construct(_fields_set=todo.model_fields_set | {"status", "run_id"}, **given)
