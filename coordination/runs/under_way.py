"""Todos that runs have in hand: nobody else may begin, or undo, one of these."""

from __future__ import annotations

from collections.abc import Container

from coordination.errors import Conflict
from coordination.planner.gates import NOWHERE
from coordination.runs.records import RunStatus, TodoState, TodoView
from coordination.runs.store import RunStore
from coordination.runs.view import RunReader


def refuse_under_way(store: RunStore, reader: RunReader, todos: Container[str]) -> None:
    """Raises Conflict where a run has one of these todos in hand."""
    for run_id in store.live_runs():
        run = reader.read(run_id)
        shared = [todo.id for todo in run.todos if todo.id in todos and _in_hand(todo, run.status)]
        if shared:
            end = "" if run.status is RunStatus.ROLLING_BACK else f"; or end it: coord cancel {run_id}"
            raise Conflict(
                f"run {run_id} of {run.plan_id} is {run.status} and has {shared[0]} in hand",
                f"follow it: coord watch {run_id}{end}",
            )


def _in_hand(todo: TodoView, status: RunStatus) -> bool:
    """Of a run that is rolled back whatever is not undone yet. A milestone is nobody's: each run asks
    for its own approval, and another plan may have one of the same name.
    """
    if status is RunStatus.ROLLING_BACK:
        return todo.state is not TodoState.COMPENSATED and todo.repo != NOWHERE
    return not todo.state.ended and todo.repo != NOWHERE
