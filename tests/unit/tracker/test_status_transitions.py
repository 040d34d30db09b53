"""Which status may follow which, said once more: for every pair, by hand."""

from __future__ import annotations

from enum import StrEnum
from itertools import product

import pytest

from coordination.errors import Conflict
from coordination.models import IssueStatus, PlanStatus, TodoStatus
from coordination.tracker.kinds import check_finish, check_transition

# A row for each status, with those that may follow.
ISSUE = """
pending      in_progress blocked resolved closed
in_progress  pending blocked resolved closed
blocked      pending in_progress resolved closed
resolved     pending in_progress closed
closed       pending in_progress
"""
TODO = """
pending      in_progress blocked completed cancelled
in_progress  pending blocked completed cancelled
blocked      pending in_progress completed cancelled
completed    pending
cancelled    pending
"""
PLAN = """
draft        active cancelled
active       on_hold completed cancelled
on_hold      active cancelled
completed    active
cancelled    draft
"""
TABLES: dict[str, tuple[type[StrEnum], str]] = {
    "issue": (IssueStatus, ISSUE),
    "todo": (TodoStatus, TODO),
    "milestone": (TodoStatus, TODO),
    "plan": (PlanStatus, PLAN),
}
PAIRS = [
    pytest.param(
        noun, before, after, after == before or after in line.split()[1:], id=f"{noun} {before} {after}"
    )
    for noun, (kind, table) in TABLES.items()
    for line in table.strip().splitlines()
    for before, after in product([kind(line.split()[0])], kind)
]


@pytest.mark.parametrize(("noun", "before", "after", "allowed"), PAIRS)
def test_a_status_follows_as_the_table_says(noun: str, before: StrEnum, after: StrEnum, allowed: bool):
    if allowed:
        check_transition(noun, "X-1", before, after)
        return
    with pytest.raises(Conflict) as refused:
        check_transition(noun, "X-1", before, after)
    assert refused.value.message == f"X-1 is {before} and cannot become {after}"
    assert refused.value.hint.startswith(f"from {before} it can become ")


@pytest.mark.parametrize(
    ("noun", "before", "after", "message"),
    [
        ("issue", IssueStatus.CLOSED, IssueStatus.CLOSED, "X-1 is closed already"),
        ("todo", TodoStatus.COMPLETED, TodoStatus.COMPLETED, "X-1 is completed already"),
        ("todo", TodoStatus.CANCELLED, TodoStatus.COMPLETED, "X-1 is cancelled"),
        ("milestone", TodoStatus.COMPLETED, TodoStatus.COMPLETED, "X-1 is completed already"),
    ],
)
def test_what_is_over_is_not_finished_again(noun: str, before: StrEnum, after: StrEnum, message: str):
    with pytest.raises(Conflict) as refused:
        check_finish(noun, "X-1", before, after, "reopen it")

    assert (refused.value.message, refused.value.hint) == (message, "reopen it")


@pytest.mark.parametrize(
    "before", [IssueStatus.PENDING, IssueStatus.IN_PROGRESS, IssueStatus.BLOCKED, IssueStatus.RESOLVED]
)
def test_what_is_open_or_resolved_can_be_closed(before: IssueStatus):
    check_finish("issue", "X-1", before, IssueStatus.CLOSED, "")
