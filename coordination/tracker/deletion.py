"""Deleting, and what goes along: nothing in the file may name what is no longer there.

With a plan go the todos that belong to it. Whoever else names a deleted record only loses the reference.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from coordination.errors import Conflict
from coordination.models import Ecosystem
from coordination.text import listed
from coordination.tracker.kinds import ISSUE, KINDS, PLAN, TODO, Kind, R, unknown
from coordination.tracker.milestones import get as get_milestone
from coordination.tracker.milestones import update as update_milestone
from coordination.tracker.readiness import release
from coordination.tracker.records import DeletePreview, Removed
from coordination.tracker.references import Reference, naming
from coordination.tracker.sheet import Transaction


def what_goes(ecosystem: Ecosystem, name: str) -> DeletePreview:
    """Raises NotFound."""
    known = [record.id for kind in KINDS for record in kind.all(ecosystem)]
    if name not in known:
        raise unknown("record", name, known, "ecosystem-status")
    deleted = _members(ecosystem, name)
    released = tuple(map(str, _released(ecosystem, _gone(ecosystem, name, deleted))))
    return DeletePreview(id=name, deleted=deleted, released=released)


def delete(sheet: Transaction, kind: Kind[R], record: R, cascade: bool) -> Removed:
    """Raises Conflict while others name it, unless with `cascade`."""
    goes = what_goes(sheet.ecosystem, record.id)
    if goes and not cascade:
        raise Conflict(f"{record.id} cannot be deleted: {_reasons(goes)}", "with --cascade that goes, too")
    gone = _gone(sheet.ecosystem, record.id, goes.deleted)
    for reference in _released(sheet.ecosystem, gone):
        _release(sheet, reference, gone)
    for name in goes.deleted:
        sheet.remove(TODO, name)
    sheet.remove(kind, record.id)
    return Removed(record=record, also=goes.deleted, released=goes.released, ready=release(sheet))


def _members(ecosystem: Ecosystem, name: str) -> tuple[str, ...]:
    """The todos that name it as their plan."""
    if any(plan.id == name for plan in ecosystem.coordination.plans):
        return tuple(todo.id for todo in ecosystem.coordination.todos if todo.plan == name)
    return ()


def _gone(ecosystem: Ecosystem, name: str, members: Iterable[str]) -> set[str]:
    """All ids that nothing has any more: those of a plan's milestones, too, unless another plan has one of that name."""
    plans = ecosystem.coordination.plans
    own = {m.id for plan in plans if plan.id == name for m in plan.milestones}
    return {name, *members} | (own - {m.id for plan in plans if plan.id != name for m in plan.milestones})


def _released(ecosystem: Ecosystem, gone: set[str]) -> list[Reference]:
    return [
        reference
        for reference, _ in naming(ecosystem, gone)
        if reference.field != "plan" and reference.owner not in gone and reference.plan not in gone
    ]


def _release(sheet: Transaction, reference: Reference, gone: set[str]) -> None:
    """Take the names out of that field; a list that is empty then goes, too."""
    if reference.plan is not None:
        plan = sheet.get(PLAN, reference.plan)
        milestone = get_milestone(plan, reference.owner)
        update_milestone(sheet, plan, milestone.id, _without(milestone, reference.field, gone))
    elif issue := sheet.find(ISSUE, reference.owner):
        sheet.update(ISSUE, issue, _without(issue, reference.field, gone))
    elif todo := sheet.find(TODO, reference.owner):
        sheet.update(TODO, todo, _without(todo, reference.field, gone))


def _without(record: object, field: str, gone: set[str]) -> dict[str, Any]:
    return {field: [name for name in getattr(record, field) if name not in gone] or None}


def _reasons(goes: DeletePreview) -> str:
    words = []
    if goes.deleted:
        words.append(f"{listed(goes.deleted)} {'belongs' if len(goes.deleted) == 1 else 'belong'} to it")
    if goes.released:
        words.append(f"{listed(goes.released)} {'names' if len(goes.released) == 1 else 'name'} it")
    return ", and ".join(words)
