"""Kinds of records in the tracker, and the status transitions of each.

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

Closing and completing never reopen a record; closing a closed one is an error. Setting the same status again
is no change. A plan cannot be completed while a todo or milestone of it is open. A todo or an issue may be
finished while its blockers are open, because people see that the work is done; they get a note about the open
blockers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from coordination.errors import Conflict, NotFound
from coordination.models import (
    OPEN_TODO,
    Dependency,
    Ecosystem,
    Issue,
    IssueStatus,
    Milestone,
    Plan,
    PlanStatus,
    Todo,
    TodoStatus,
)
from coordination.text import hint_for_unknown, nearest

Work = Issue | Plan | Todo
"""Records that blockers may name; they share one id space."""
TrackedRecord = Work | Dependency
R = TypeVar("R", bound=TrackedRecord)


@dataclass(frozen=True, kw_only=True)
class Kind(Generic[R]):
    """A kind of records: its nouns, its section in the file, and its type."""

    noun: str
    section: str
    model: type[R]
    first_id: str
    """Id of the first record, if the file has none."""
    listed_by: str

    def all(self, ecosystem: Ecosystem) -> tuple[R, ...]:
        records: tuple[R, ...] = getattr(ecosystem.coordination, self.section)
        return records

    def get(self, ecosystem: Ecosystem, name: str) -> R:
        """Return the record. Raises NotFound with a suggestion, also if the id belongs to another kind."""
        for record in self.all(ecosystem):
            if record.id == name:
                return record
        other = next((kind for kind in KINDS if any(r.id == name for r in kind.all(ecosystem))), None)
        if other is not None:
            raise NotFound(
                f"{name} is {with_article(other.noun)}, not {with_article(self.noun)}",
                f"see it: coord {other.shown_by} {name}",
            )
        raise unknown(self.noun, name, [record.id for record in self.all(ecosystem)], self.listed_by)

    @property
    def shown_by(self) -> str:
        return self.listed_by.replace("list", "show")


ISSUE = Kind(noun="issue", section="issues", model=Issue, first_id="ISSUE-001", listed_by="issue list")
PLAN = Kind(noun="plan", section="plans", model=Plan, first_id="PLAN-001", listed_by="plan list")
TODO = Kind(noun="todo", section="todos", model=Todo, first_id="TODO-001", listed_by="todo list")
DEPENDENCY = Kind(
    noun="dependency", section="dependencies", model=Dependency, first_id="DEP-001", listed_by="dep list"
)
KINDS: Sequence[Kind[Issue] | Kind[Plan] | Kind[Todo] | Kind[Dependency]] = (ISSUE, PLAN, TODO, DEPENDENCY)
WORK: Sequence[Kind[Issue] | Kind[Plan] | Kind[Todo]] = (ISSUE, PLAN, TODO)


_NOUNS: dict[type, str] = {Milestone: "milestone", **{kind.model: kind.noun for kind in KINDS}}


def kind_of(record: object) -> str:
    return TODO.noun if isinstance(record, Todo) else _NOUNS[type(record)]


def title_of(record: TrackedRecord | Milestone) -> str:
    match record:
        case Todo():
            return record.task
        case Milestone():
            return record.name
        case Dependency():
            return f"{record.consumer} needs {record.provider}"
        case _:
            return record.title


def repos_of(record: TrackedRecord | Milestone) -> tuple[str, ...]:
    match record:
        case Todo():
            return (record.repo,)
        case Issue() | Plan():
            return record.repos
        case Dependency():
            return (record.consumer, record.provider)
        case _:
            return ()


def unknown(noun: str, name: str, known: Iterable[str], listed_by: str, *, within: str = "") -> NotFound:
    """Return the error for an unknown name, with a suggestion. `within`: the record that lacks it."""
    names = tuple(known)
    suggestion = nearest(name, names)
    hint = f"did you mean {suggestion}?" if suggestion else hint_for_unknown(names, listed_by)
    return NotFound(f"{within} has no {noun} {name!r}" if within else f"there is no {noun} {name!r}", hint)


def with_article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


OPEN_ISSUE = frozenset({IssueStatus.PENDING, IssueStatus.IN_PROGRESS, IssueStatus.BLOCKED})
OPEN_PLAN = frozenset({PlanStatus.DRAFT, PlanStatus.ACTIVE, PlanStatus.ON_HOLD})
OPEN: frozenset[StrEnum] = frozenset({*OPEN_ISSUE, *OPEN_TODO, *OPEN_PLAN})

_Transitions = Mapping[StrEnum, frozenset[StrEnum]]

_ISSUE: _Transitions = {
    **dict.fromkeys(OPEN_ISSUE, frozenset({*OPEN_ISSUE, IssueStatus.RESOLVED, IssueStatus.CLOSED})),
    IssueStatus.RESOLVED: frozenset({IssueStatus.CLOSED, IssueStatus.PENDING, IssueStatus.IN_PROGRESS}),
    IssueStatus.CLOSED: frozenset({IssueStatus.PENDING, IssueStatus.IN_PROGRESS}),
}
_TODO: _Transitions = {
    **dict.fromkeys(OPEN_TODO, frozenset({*OPEN_TODO, TodoStatus.COMPLETED, TodoStatus.CANCELLED})),
    TodoStatus.COMPLETED: frozenset({TodoStatus.PENDING}),
    TodoStatus.CANCELLED: frozenset({TodoStatus.PENDING}),
}
_PLAN: _Transitions = {
    PlanStatus.DRAFT: frozenset({PlanStatus.ACTIVE, PlanStatus.CANCELLED}),
    PlanStatus.ACTIVE: frozenset({PlanStatus.ON_HOLD, PlanStatus.COMPLETED, PlanStatus.CANCELLED}),
    PlanStatus.ON_HOLD: frozenset({PlanStatus.ACTIVE, PlanStatus.CANCELLED}),
    PlanStatus.COMPLETED: frozenset({PlanStatus.ACTIVE}),
    PlanStatus.CANCELLED: frozenset({PlanStatus.DRAFT}),
}
TRANSITIONS: Mapping[str, _Transitions] = {"issue": _ISSUE, "todo": _TODO, "milestone": _TODO, "plan": _PLAN}


def check_transition(noun: str, name: str, before: StrEnum, after: StrEnum) -> None:
    """Raise Conflict if the status may not follow, naming those that may."""
    if noun not in TRANSITIONS or before == after:
        return
    allowed = TRANSITIONS[noun][before]
    if after not in allowed:
        statuses = " or ".join(status for status in type(before) if status in allowed)
        raise Conflict(
            f"{name} is {before} and cannot become {after}", f"from {before} it can become {statuses}"
        )


def check_finish(noun: str, name: str, before: StrEnum, after: StrEnum, reopen: str) -> None:
    """Raise Conflict if a record cannot be finished because it is finished already. `reopen`: the hint of the
    error, with the command that reopens it.
    """
    if before == after or (before not in OPEN and after not in TRANSITIONS[noun][before]):
        raise Conflict(f"{name} is {before} already" if before == after else f"{name} is {before}", reopen)
    check_transition(noun, name, before, after)
