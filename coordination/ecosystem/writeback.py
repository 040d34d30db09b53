"""Writing a run's results into the file.

Succeeded todos become completed, with their hours, and pending again when they are undone; approved
milestones are treated alike.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from coordination.ecosystem.changes import RunOutcome
from coordination.ecosystem.editing import Edit, edit
from coordination.ecosystem.parsing import moment
from coordination.models import OPEN_TODO, TodoStatus


@dataclass(frozen=True, kw_only=True)
class Written:
    """The changed todos and milestones, in the file's order."""

    completed: tuple[str, ...] = ()
    reopened: tuple[str, ...] = ()
    reached: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    """Undone todos that stay completed, because the run had not written that."""
    refused: str = ""
    """Reason why signatures do not cover all that the run has; empty if they do."""

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.completed, *self.reached, *self.reopened, *self.lost)


def write_back(path: Path, read: Callable[[], RunOutcome], now: datetime, run_id: str = "") -> Written:
    """Write the outcome of a run into the file, in one edit, and return the changes. Raises what `edit`
    raises.

    `read` returns the outcome. It is called under the lock of edits, so that of two processes that write back
    the same run neither writes what the other has overtaken. `run_id`: the cause in the history.
    """
    written = Written()

    def decide(edit: Edit) -> None:
        nonlocal written
        outcome = read()
        undone = {todo: hours for todo, hours in outcome.undone.items() if todo not in outcome.reopened}
        completed = _complete(edit, outcome.succeeded, now)
        reopened, left = _reopen(edit, undone, now, outcome.filed)
        reached = _set_milestones(edit, outcome.plan, outcome.reached, TodoStatus.COMPLETED, now)
        lost = _set_milestones(edit, outcome.plan, outcome.lost, TodoStatus.PENDING, now)
        written = Written(completed=completed, reopened=reopened, reached=reached, lost=lost, left=left)

    edit(path, decide, cause=run_id)
    return written


def _complete(edit: Edit, hours: Mapping[str, float | None], now: datetime) -> tuple[str, ...]:
    completed = []
    for todo in edit.document.ecosystem.coordination.todos:
        if todo.id not in hours or todo.status == TodoStatus.COMPLETED:
            continue
        place = ("todos", todo.id)
        edit.set(place, "status", TodoStatus.COMPLETED.value)
        if (spent := hours[todo.id]) is not None:
            edit.set(place, "actual_hours", rounded_hours(spent))
        edit.set(place, "updated", moment(now, like=todo.updated or todo.created))
        completed.append(todo.id)
    return tuple(completed)


def _reopen(
    edit: Edit, hours: Mapping[str, float | None], now: datetime, filed: Collection[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    reopened, left = [], []
    for todo in edit.document.ecosystem.coordination.todos:
        if todo.id not in hours or todo.status != TodoStatus.COMPLETED:
            continue
        spent = hours[todo.id]
        if todo.id not in filed and todo.actual_hours != (None if spent is None else rounded_hours(spent)):
            left.append(todo.id)
            continue
        place = ("todos", todo.id)
        edit.set(place, "status", TodoStatus.PENDING.value)
        edit.set(place, "actual_hours", None)
        edit.set(place, "updated", moment(now, like=todo.updated or todo.created))
        reopened.append(todo.id)
    return tuple(reopened), tuple(left)


def _set_milestones(
    edit: Edit, plan_id: str, names: Collection[str], status: TodoStatus, now: datetime
) -> tuple[str, ...]:
    """Complete open milestones, or reopen completed ones; milestones with another status stay unchanged."""
    before = OPEN_TODO if status is TodoStatus.COMPLETED else (TodoStatus.COMPLETED,)
    changed: list[str] = []
    for plan in edit.document.ecosystem.coordination.plans if names else ():
        if plan.id == plan_id:
            changed.extend(m.id for m in plan.milestones if m.id in names and m.status in before)
            for name in changed:
                edit.set(("plans", plan.id, "milestones", name), "status", status.value)
            if changed:
                edit.set(("plans", plan.id), "updated", moment(now, like=plan.updated or plan.created))
    return tuple(changed)


def rounded_hours(hours: float) -> float | int:
    """Round to 0.01 hours, the precision of planning, and less to two digits, so that a todo of seconds does
    not count as none; the run keeps the exact duration.
    """
    rounded = round(hours, 2) if hours >= 0.01 else round(float(f"{hours:.2g}"), 6)
    return int(rounded) if rounded == int(rounded) else rounded
