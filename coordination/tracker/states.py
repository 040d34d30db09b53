"""Which status may follow which.

| | from | to |
|---|---|---|
| issue | pending, in_progress, blocked | each other, resolved, closed |
| | resolved | closed; pending, in_progress (reopened) |
| | closed | pending, in_progress (reopened) |
| todo, milestone | pending, in_progress, blocked | each other, completed, cancelled |
| | completed, cancelled | pending (reopened) |
| plan | draft | active, cancelled |
| | active | on_hold, completed, cancelled |
| | on_hold | active, cancelled |
| | completed | active (reopened) |
| | cancelled | draft (reopened) |
| dependency | any | any |

Closing and completing never reopen: who closes what is closed is told so. The same status again is no change. A plan is
not completed while a todo or milestone of it is open. A todo or an issue may be finished while something that it waited
for is open: people see that the work is done, and are told what they passed by.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from coordination.errors import Conflict
from coordination.models import OPEN_TODO, IssueStatus, PlanStatus, TodoStatus

OPEN_ISSUE = frozenset({IssueStatus.PENDING, IssueStatus.IN_PROGRESS, IssueStatus.BLOCKED})
OPEN_PLAN = frozenset({PlanStatus.DRAFT, PlanStatus.ACTIVE, PlanStatus.ON_HOLD})
OPEN: frozenset[StrEnum] = frozenset({*OPEN_ISSUE, *OPEN_TODO, *OPEN_PLAN})

_Moves = Mapping[StrEnum, frozenset[StrEnum]]

_ISSUE: _Moves = {
    **dict.fromkeys(OPEN_ISSUE, frozenset({*OPEN_ISSUE, IssueStatus.RESOLVED, IssueStatus.CLOSED})),
    IssueStatus.RESOLVED: frozenset({IssueStatus.CLOSED, IssueStatus.PENDING, IssueStatus.IN_PROGRESS}),
    IssueStatus.CLOSED: frozenset({IssueStatus.PENDING, IssueStatus.IN_PROGRESS}),
}
_TODO: _Moves = {
    **dict.fromkeys(OPEN_TODO, frozenset({*OPEN_TODO, TodoStatus.COMPLETED, TodoStatus.CANCELLED})),
    TodoStatus.COMPLETED: frozenset({TodoStatus.PENDING}),
    TodoStatus.CANCELLED: frozenset({TodoStatus.PENDING}),
}
_PLAN: _Moves = {
    PlanStatus.DRAFT: frozenset({PlanStatus.ACTIVE, PlanStatus.CANCELLED}),
    PlanStatus.ACTIVE: frozenset({PlanStatus.ON_HOLD, PlanStatus.COMPLETED, PlanStatus.CANCELLED}),
    PlanStatus.ON_HOLD: frozenset({PlanStatus.ACTIVE, PlanStatus.CANCELLED}),
    PlanStatus.COMPLETED: frozenset({PlanStatus.ACTIVE}),
    PlanStatus.CANCELLED: frozenset({PlanStatus.DRAFT}),
}
MOVES: Mapping[str, _Moves] = {"issue": _ISSUE, "todo": _TODO, "milestone": _TODO, "plan": _PLAN}


def check_move(noun: str, name: str, before: StrEnum, after: StrEnum) -> None:
    """Raises Conflict for a status that may not follow, with those that may."""
    if noun not in MOVES or before == after:
        return
    allowed = MOVES[noun][before]
    if after not in allowed:
        words = " or ".join(status for status in type(before) if status in allowed)
        raise Conflict(f"{name} is {before}, and cannot become {after}", f"from {before} it can become {words}")


def check_finish(noun: str, name: str, before: StrEnum, after: StrEnum, reopen: str) -> None:
    """For deeds that only finish: what is over already is no success. `reopen` is the command that undoes it."""
    if before == after or (before not in OPEN and after not in MOVES[noun][before]):
        raise Conflict(f"{name} is {before} already" if before == after else f"{name} is {before}", reopen)
    check_move(noun, name, before, after)
