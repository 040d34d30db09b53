"""Todos: work in one repository each, with what comes before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from coordination.errors import UsageError
from coordination.mcp.answers import EditedTodo, Page, ShownTodo, edited, given, page, shown
from coordination.mcp.declaring import (
    AnyOf,
    BlockedBy,
    Blocking,
    Labels,
    Limit,
    Offset,
    PlanName,
    RepoName,
    Resources,
    TodoName,
    adds,
    reads,
)
from coordination.mcp.session import Session
from coordination.models import Gate, Level, TodoStatus
from coordination.operations.glance import glance
from coordination.tracker.executing import as_view
from coordination.tracker.records import Edited, TodoInView


@reads("List todos")
def coord_list_todos(
    office: Session,
    repo: AnyOf[str] = (),
    status: AnyOf[TodoStatus] = (),
    assignee: AnyOf[str] = (),
    plan: AnyOf[str] = (),
    priority: AnyOf[Level] = (),
    label: AnyOf[str] = (),
    limit: Limit = 100,
    offset: Offset = 0,
) -> Page[TodoInView]:
    """Todos that fit all filters, most urgent first."""
    found = office.coord.manager.list_todos(
        status or None, repo or None, assignee or None, plan or None, priority or None, label or None
    )
    return page([as_view(todo) for todo in found], limit, offset)


@reads("Show a todo")
def coord_get_todo(office: Session, todo: TodoName) -> ShownTodo:
    """One todo with everything that it waits for and holds up, and what a run does with it."""
    coord = office.coord
    manager = coord.manager
    record = manager.get_todo(todo)
    seen = glance(office.path, coord.settings, lambda live: live.todo(todo))
    return shown(ShownTodo, record, manager.chains_of(todo), live=seen.answer if seen else None)


@adds("Create a todo")
def coord_create_todo(
    office: Session,
    task: Annotated[str, Field(description="A line that says what is to be done.")],
    repo: RepoName,
    plan: PlanName | None = None,
    description: str | None = None,
    acceptance_criteria: Annotated[Sequence[str] | None, Field(description="When it counts as done.")] = None,
    priority: Level | None = None,
    estimated_hours: Annotated[float | None, Field(gt=0)] = None,
    blocked_by: BlockedBy = None,
    blocking: Blocking = None,
    assignee: str | None = None,
    labels: Labels = None,
    run: Annotated[str | None, Field(description="A shell command that does it.")] = None,
    prompt: Annotated[str | None, Field(description="What an agent is told that does it.")] = None,
    manual: Annotated[bool, Field(description="A person does it, and says so with coord_complete_todo.")] = False,
    gate: Annotated[
        bool | Gate | None,
        Field(
            description="It begins only after coord_approve_todo; `timeout` (like 24h) and `on_timeout` if nobody comes."
        ),
    ] = None,
    timeout: Annotated[str | None, Field(description="Like 90s, 10m or 1h.")] = None,
    resources: Resources = None,
) -> EditedTodo:
    """Write a new todo into the ecosystem file; it gets the next free id.

    It is carried out by one of `run`, `prompt` or `manual`; without any, the configured agent is told what the todo says.
    """
    fields = given(
        {**locals(), "action": _action(run, prompt, manual), "gate": gate or None}, "run", "prompt", "manual"
    )
    return edited(EditedTodo, office.coord.manager.create_todo(**fields))


@adds("Complete a todo")
def coord_complete_todo(
    office: Session,
    todo: TodoName,
    actual_hours: Annotated[float | None, Field(ge=0, description="How long it took.")] = None,
) -> EditedTodo:
    """Say that a todo is done; `ready` names what may begin now. A run that waits for it goes on."""
    coord = office.coord
    completed = coord.complete_todo(todo, actual_hours)
    if completed.run_id:
        office.seen(coord.runs.get(completed.run_id))
    return edited(EditedTodo, completed.edited or Edited(record=coord.manager.get_todo(todo)), run_id=completed.run_id)


def _action(run: str | None, prompt: str | None, manual: bool) -> dict[str, Any] | None:
    actions: list[dict[str, Any]] = [{"type": "shell", "run": run}] if run is not None else []
    actions += [{"type": "agent", "prompt": prompt}] if prompt is not None else []
    actions += [{"type": "manual"}] if manual else []
    if len(actions) > 1:
        raise UsageError(
            "run, prompt and manual exclude each other", "give one of them, or none for the configured agent"
        )
    return actions[0] if actions else None
