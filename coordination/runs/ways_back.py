"""What undoes a todo, and of which nothing does. Pure."""

from __future__ import annotations

from coordination.models import ManualAction, NoopAction, Todo, Workspace
from coordination.planner.gates import NOWHERE


def without_way_back(todo: Todo, *, in_git: bool = True) -> str:
    """Why nothing undoes the todo; empty where something does: its `compensate`, or that its run's branch goes. A milestone's
    approval has changed nothing.
    """
    if todo.compensate is not None or todo.repo == NOWHERE or isinstance(todo.action, NoopAction):
        return ""
    if isinstance(todo.action, ManualAction):
        return "a person does it"
    if todo.workspace is Workspace.IN_PLACE:
        return "it works in place"
    return "" if in_git else "it worked in a folder that is no git repository"
