"""Writing a run's results into the file.

Succeeded todos become completed, with their hours, and pending again when they are undone; approved
milestones are treated alike.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from coordination.ecosystem.editing import Edit, edit
from coordination.ecosystem.parsing import moment
from coordination.ecosystem.revision import RunOutcome
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

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.completed, *self.reached, *self.reopened, *self.lost)


def write_back(path: Path, outcome: RunOutcome, now: datetime) -> Written:
    """Write the outcome into the file and return the changes. Raises what `edit` raises."""
    completed = complete_todos(path, outcome.succeeded, now)
    undone = {todo: hours for todo, hours in outcome.undone.items() if todo not in outcome.reopened}
    reopened, left = reopen_todos(path, undone, now, outcome.filed) if undone else ((), ())
    reached = _set_milestones(path, outcome.plan, outcome.reached, TodoStatus.COMPLETED, now)
    lost = _set_milestones(path, outcome.plan, outcome.lost, TodoStatus.PENDING, now)
    return Written(completed=completed, reopened=reopened, reached=reached, lost=lost, left=left)


def _set_milestones(
    path: Path, plan_id: str, names: Collection[str], status: TodoStatus, now: datetime
) -> tuple[str, ...]:
    """Complete open milestones, or reopen completed ones; milestones with another status stay unchanged."""
    changed: list[str] = []
    before = OPEN_TODO if status is TodoStatus.COMPLETED else (TodoStatus.COMPLETED,)

    def decide(edit: Edit) -> None:
        changed.clear()
        for plan in edit.document.ecosystem.coordination.plans:
            if plan.id == plan_id:
                changed.extend(m.id for m in plan.milestones if m.id in names and m.status in before)
                for name in changed:
                    edit.set(("plans", plan.id, "milestones", name), "status", status.value)
                if changed:
                    edit.set(("plans", plan.id), "updated", moment(now, like=plan.updated or plan.created))

    if names:
        edit(path, decide)
    return tuple(changed)


def complete_todos(path: Path, hours: Mapping[str, float | None], now: datetime) -> tuple[str, ...]:
    """Set `status: completed`, `actual_hours` (unless None) and `updated` of the named todos, in one edit.

    Returns the changed ids in the file's order; todos that are completed already or no longer in the file
    stay unchanged. Raises what `edit` raises; the file is then unchanged.
    """
    completed: list[str] = []

    def decide(edit: Edit) -> None:
        completed.clear()
        for todo in edit.document.ecosystem.coordination.todos:
            if todo.id not in hours or todo.status == TodoStatus.COMPLETED:
                continue
            place = ("todos", todo.id)
            edit.set(place, "status", TodoStatus.COMPLETED.value)
            if (spent := hours[todo.id]) is not None:
                edit.set(place, "actual_hours", rounded_hours(spent))
            edit.set(place, "updated", moment(now, like=todo.updated or todo.created))
            completed.append(todo.id)

    edit(path, decide)
    return tuple(completed)


def reopen_todos(
    path: Path, hours: Mapping[str, float | None], now: datetime, filed: Collection[str] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Set `status: pending` and remove `actual_hours` of the named todos, in one edit.

    Only todos in `filed` (the run is known to have completed them here) or completed with exactly these hours
    (None: without hours) are changed, so that todos completed by hand stay completed. Returns the changed
    ids, and those left completed, each in the file's order. Raises what `complete_todos` raises.
    """
    reopened: list[str] = []
    left: list[str] = []

    def decide(edit: Edit) -> None:
        reopened.clear()
        left.clear()
        for todo in edit.document.ecosystem.coordination.todos:
            if todo.id not in hours or todo.status != TodoStatus.COMPLETED:
                continue
            spent = hours[todo.id]
            if todo.id not in filed and todo.actual_hours != (
                None if spent is None else rounded_hours(spent)
            ):
                left.append(todo.id)
                continue
            place = ("todos", todo.id)
            edit.set(place, "status", TodoStatus.PENDING.value)
            edit.set(place, "actual_hours", None)
            edit.set(place, "updated", moment(now, like=todo.updated or todo.created))
            reopened.append(todo.id)

    edit(path, decide)
    return tuple(reopened), tuple(left)


def rounded_hours(hours: float) -> float | int:
    """Round to 0.01 hours, the precision of planning; the run keeps the exact duration."""
    rounded = round(hours, 2)
    return int(rounded) if rounded == int(rounded) else rounded
