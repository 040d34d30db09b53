"""What undoes a todo, and of which nothing does. Pure."""

from __future__ import annotations

from coordination.models import ManualAction, NoopAction, Todo, Workspace
from coordination.planner.gates import MILESTONE_REPO


def without_way_back(todo: Todo, *, in_git: bool = True) -> str:
    """Why nothing undoes the todo; empty where something does: its `compensate`, or that its run's branch goes. Of a milestone's
    approval, and of what a person does, nothing is coord's to undo.
    """
    if todo.compensate is not None or todo.repo == MILESTONE_REPO or isinstance(todo.action, NoopAction | ManualAction):
        return ""
    if todo.workspace is Workspace.IN_PLACE:
        return "it works in place"
    return "" if in_git else "it worked in a folder that is no git repository"
