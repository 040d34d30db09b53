"""What became ready through a deed: it waited for something, and waits for nothing any more.

Whoever of it stood as `blocked` is `pending` from then on, in the same edit, unless somebody has just said otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator

from coordination.models import IssueStatus, Milestone, Plan, TodoStatus
from coordination.tracker import milestones
from coordination.tracker.kinds import ISSUE, PLAN, TODO
from coordination.tracker.order import check_cycles
from coordination.tracker.sheet import Transaction
from coordination.tracker.ties import Relations, became_ready


def release(sheet: Transaction) -> tuple[str, ...]:
    """The ids, milestones as `PLAN-001.M2`. Raises UsageError where the deed would close a cycle."""
    if not (sheet.touched or sheet.touched_milestones or sheet.reordered):
        return ()
    after = Relations(sheet.ecosystem)
    check_cycles(sheet, after)
    ready = dict.fromkeys(_ready_work(sheet, after))
    for plan in list(_concerned(sheet)):
        ready |= dict.fromkeys(_ready_in(sheet, plan))
    for name in ready:
        _unblock(sheet, name)
    return tuple(ready)


def _ready_work(sheet: Transaction, after: Relations) -> Iterator[str]:
    if sheet.touched:
        for name in became_ready(sheet.ties_before, after, sheet.touched):
            if not isinstance(after.items[name], Milestone):
                yield name


def _concerned(sheet: Transaction) -> Iterator[Plan]:
    """Plans of which a milestone was touched, or one waits for something that was."""
    for plan in PLAN.all(sheet.ecosystem):
        waits = (name for milestone in plan.milestones for name in milestone.dependencies)
        if plan.id in sheet.touched_milestones or any(name in sheet.touched for name in waits):
            yield plan


def _ready_in(sheet: Transaction, plan: Plan) -> Iterator[str]:
    """Milestones have their names from their plan, so this is asked in its words."""
    was = next((old for old in PLAN.all(sheet.before) if old.id == plan.id), None)
    if was is None:
        return
    before, after = Relations(sheet.before, was), Relations(sheet.ecosystem, plan)
    own = {m.id for m in plan.milestones}
    for name in became_ready(before, after, {*sheet.touched, *sheet.touched_milestones.get(plan.id, ())}):
        if not isinstance(after.items[name], Milestone):
            yield name
        elif name in own:
            yield f"{plan.id}.{name}"


def _unblock(sheet: Transaction, name: str) -> None:
    if name in sheet.given_status:
        return
    todo, issue = sheet.find(TODO, name), sheet.find(ISSUE, name)
    if todo and todo.status is TodoStatus.BLOCKED:
        sheet.update(TODO, todo, {"status": TodoStatus.PENDING})
    if issue and issue.status is IssueStatus.BLOCKED:
        sheet.update(ISSUE, issue, {"status": IssueStatus.PENDING})
    if not todo and not issue:
        _unblock_milestone(sheet, name)


def _unblock_milestone(sheet: Transaction, name: str) -> None:
    for plan in PLAN.all(sheet.ecosystem):
        for milestone in plan.milestones:
            if f"{plan.id}.{milestone.id}" == name and milestone.status is TodoStatus.BLOCKED:
                milestones.update(sheet, plan, milestone.id, {"status": TodoStatus.PENDING})
