"""The todos: listed, created, changed, deleted. That one is done stands in `done.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich_click import command

from coordination.cli.completing import todo_ids
from coordination.cli.context import CliContext
from coordination.cli.desk.changing import creates, deletes, updates
from coordination.cli.desk.listing import print_todos
from coordination.cli.live import in_hand
from coordination.cli.options.fields import TODO
from coordination.cli.options.filling import Changes
from coordination.cli.options.filters import by_name, by_word
from coordination.cli.screen.shown import Form, shown
from coordination.models import Level, TodoStatus
from coordination.tracker.executing import as_view
from coordination.tracker.records import TodoInView

if TYPE_CHECKING:
    from coordination.tracker.manager import CoordinationManager
    from coordination.tracker.records import Edited, Removed


@command()
@by_word("--status", TodoStatus)
@by_word("--priority", Level)
@by_name("--repo", "Only of this repository.")
@by_name("--plan", "Only of this plan.")
@by_name("--assignee", "Only what this person or agent is to do.")
@by_name("--label", "Only those with this label.")
@shown(TodoInView)
@click.pass_obj
def list_todos(call: CliContext, /, form: Form, **filters: Any) -> None:
    """List the todos: most urgent first. Filters add up."""
    todos = [as_view(todo) for todo in call.manager.list_todos(**filters)]
    form.records(todos, lambda: print_todos(todos, in_hand(call)))


@creates(TODO)
def create_todo(desk: CoordinationManager, records: Sequence[Mapping[str, Any]]) -> Sequence[Edited]:
    """Create a todo; prints its id. Without --run, --prompt or --manual the agent is told what it says."""
    return desk.create_all("todo", records)


@updates("TODO", TODO, todo_ids)
def update_todo(desk: CoordinationManager, todo: str, changes: Changes) -> Edited:
    """Change fields of TODO; an empty value clears one (--assignee '')."""
    return desk.update_todo(todo, changes)


@deletes("TODO", todo_ids)
def delete_todo(desk: CoordinationManager, todo: str, cascade: bool) -> Removed:
    """Delete TODO; refused while others name it."""
    return desk.delete_todo(todo, cascade=cascade)
