"""Milestones: records inside a plan, with ids that are unique per plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from coordination.errors import Conflict
from coordination.models import Milestone, Plan, TodoStatus
from coordination.text import listed
from coordination.tracker.kinds import PLAN, check_finish, check_transition, unknown
from coordination.tracker.relations import check_free, check_references, references_to
from coordination.tracker.transaction import Numbering, Transaction, differing, validated, with_changes

FIRST = "M1"


def add(transaction: Transaction, plan: Plan, fields: Mapping[str, Any]) -> Plan:
    """Add a milestone and return the plan."""
    own = [m.id for m in plan.milestones]
    values = {
        "id": Numbering(own, own, FIRST).next(),
        **{name: value for name, value in fields.items() if value is not None},
    }
    milestone = validated("milestone", Milestone, values)
    check_free(milestone.id, own)
    check_references(transaction.names, milestone, plan=plan)
    transaction.add((PLAN.section, plan.id, "milestones"), milestone, values)
    return _store_plan(transaction, plan, (*plan.milestones, milestone), milestone.id)


def complete(transaction: Transaction, plan: Plan, name: str) -> Plan:
    """Complete a milestone. Raises Conflict if it is finished already."""
    milestone = get(plan, name)
    reopen = f"reopen it first: coord plan update {plan.id} --reopen-milestone {name}"
    check_finish("milestone", name, milestone.status, TodoStatus.COMPLETED, reopen)
    return update(transaction, plan, name, {"status": TodoStatus.COMPLETED})


def update(
    transaction: Transaction,
    plan: Plan,
    name: str,
    changes: Mapping[str, Any] | Callable[[Milestone], Mapping[str, Any]],
) -> Plan:
    before = get(plan, name)
    changes = changes(before) if callable(changes) else changes
    after = with_changes("milestone", before, changes)
    fields = differing(before, after, changes)
    if not fields:
        return plan
    check_transition("milestone", name, before.status, after.status)
    check_references(transaction.names, after, before, plan)
    transaction.set((PLAN.section, plan.id, "milestones", name), fields)
    return _store_plan(transaction, plan, (after if m is before else m for m in plan.milestones), name)


def remove(transaction: Transaction, plan: Plan, name: str) -> Plan:
    """Remove a milestone. Raises Conflict if other records name it."""
    get(plan, name)
    if references := list(_references(transaction, plan, name)):
        verb = "names" if len(references) == 1 else "name"
        hint = (
            "remove those references first; for a milestone: "
            f"coord plan update {plan.id} --milestone ID --blocked-by …"
        )
        raise Conflict(f"{name} cannot be deleted: {listed(references)} {verb} it", hint)
    transaction.drop((PLAN.section, plan.id, "milestones", name))
    return _store_plan(transaction, plan, (m for m in plan.milestones if m.id != name), name)


def _references(transaction: Transaction, plan: Plan, name: str) -> Iterator[str]:
    """Yield the references to a milestone. Outside of its plan, its name refers to it only if nothing else
    has that name.
    """
    plans = transaction.ecosystem.coordination.plans
    shared = name in transaction.names.work or any(
        m.id == name for p in plans if p.id != plan.id for m in p.milestones
    )
    for reference, _ in references_to(transaction.ecosystem, [name]):
        if reference.field != "plan" and (reference.plan == plan.id or not shared):
            yield str(reference)


def get(plan: Plan, name: str) -> Milestone:
    for milestone in plan.milestones:
        if milestone.id == name:
            return milestone
    names = [milestone.id for milestone in plan.milestones]
    raise unknown("milestone", name, names, f"plan show {plan.id}", within=plan.id)


def _store_plan(transaction: Transaction, plan: Plan, milestones: Iterable[Milestone], changed: str) -> Plan:
    stamp = {"updated": transaction.update_stamp(plan)}
    transaction.set((PLAN.section, plan.id), stamp)
    after = with_changes(PLAN.noun, plan, stamp).model_copy(update={"milestones": tuple(milestones)})
    transaction.store(PLAN, after)
    transaction.touched_milestones.setdefault(plan.id, set()).add(changed)
    return after
