"""Deletion of a record together with all references to it.

Deleting a plan also deletes the todos that belong to it; other records only lose the reference.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from coordination.errors import Conflict
from coordination.models import Ecosystem
from coordination.text import listed
from coordination.tracker.edit.milestones import get as get_milestone
from coordination.tracker.edit.milestones import update as update_milestone
from coordination.tracker.edit.readiness import release
from coordination.tracker.edit.transaction import Transaction
from coordination.tracker.kinds import ISSUE, KINDS, PLAN, TODO, Kind, R, unknown
from coordination.tracker.records import DeletePreview, Removed
from coordination.tracker.references import Reference, naming


def what_goes(ecosystem: Ecosystem, name: str) -> DeletePreview:
    """Return what a deletion would remove. Raises NotFound."""
    known = [record.id for kind in KINDS for record in kind.all(ecosystem)]
    if name not in known:
        raise unknown("record", name, known, "ecosystem-status")
    deleted = _members(ecosystem, name)
    released = tuple(map(str, _released(ecosystem, _gone(ecosystem, name, deleted))))
    return DeletePreview(id=name, deleted=deleted, released=released)


def delete(transaction: Transaction, kind: Kind[R], record: R, cascade: bool) -> Removed:
    """Delete a record. Raises Conflict if others name it, unless `cascade` is set."""
    goes = what_goes(transaction.ecosystem, record.id)
    if goes and not cascade:
        raise Conflict(
            f"{record.id} cannot be deleted: {_reasons(goes)}",
            "add --cascade to delete or change those records, too",
        )
    gone = _gone(transaction.ecosystem, record.id, goes.deleted)
    for reference in _released(transaction.ecosystem, gone):
        _release(transaction, reference, gone)
    for name in goes.deleted:
        transaction.remove(TODO, name)
    transaction.remove(kind, record.id)
    return Removed(record=record, also=goes.deleted, released=goes.released, ready=release(transaction))


def _members(ecosystem: Ecosystem, name: str) -> tuple[str, ...]:
    """Return the todos that name the plan."""
    if any(plan.id == name for plan in ecosystem.coordination.plans):
        return tuple(todo.id for todo in ecosystem.coordination.todos if todo.plan == name)
    return ()


def _gone(ecosystem: Ecosystem, name: str, members: Iterable[str]) -> set[str]:
    """Return all ids that will no longer exist, including those of a plan's milestones unless another plan
    has one of that name.
    """
    plans = ecosystem.coordination.plans
    own = {m.id for plan in plans if plan.id == name for m in plan.milestones}
    return {name, *members} | (own - {m.id for plan in plans if plan.id != name for m in plan.milestones})


def _released(ecosystem: Ecosystem, gone: set[str]) -> list[Reference]:
    return [
        reference
        for reference, _ in naming(ecosystem, gone)
        if reference.field != "plan" and reference.owner not in gone and reference.plan not in gone
    ]


def _release(transaction: Transaction, reference: Reference, gone: set[str]) -> None:
    """Remove the names from that field, and the field if its list is then empty."""
    if reference.plan is not None:
        plan = transaction.get(PLAN, reference.plan)
        milestone = get_milestone(plan, reference.owner)
        update_milestone(transaction, plan, milestone.id, _without(milestone, reference.field, gone))
    elif issue := transaction.find(ISSUE, reference.owner):
        transaction.update(ISSUE, issue, _without(issue, reference.field, gone))
    elif todo := transaction.find(TODO, reference.owner):
        transaction.update(TODO, todo, _without(todo, reference.field, gone))


def _without(record: object, field: str, gone: set[str]) -> dict[str, Any]:
    return {field: [name for name in getattr(record, field) if name not in gone] or None}


def _reasons(goes: DeletePreview) -> str:
    words = []
    if goes.deleted:
        words.append(f"{listed(goes.deleted)} {'belongs' if len(goes.deleted) == 1 else 'belong'} to it")
    if goes.released:
        words.append(f"{listed(goes.released)} {'names' if len(goes.released) == 1 else 'name'} it")
    return ", and ".join(words)
