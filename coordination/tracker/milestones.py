"""Milestones: records inside of a plan, with an own small space of ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from coordination.errors import Conflict
from coordination.models import Milestone, Plan, TodoStatus
from coordination.text import listed
from coordination.tracker import judging
from coordination.tracker.kinds import PLAN, check_finish, check_move, unknown
from coordination.tracker.references import check_free, check_references, naming
from coordination.tracker.sheet import Numbering, Transaction, differing

FIRST = "M1"


def add(sheet: Transaction, plan: Plan, fields: Mapping[str, Any]) -> Plan:
    """The plan with one more milestone."""
    own = [m.id for m in plan.milestones]
    given = {
        "id": Numbering(own, own, FIRST).next(),
        **{name: value for name, value in fields.items() if value is not None},
    }
    milestone = judging.judged("milestone", Milestone, given)
    check_free(milestone.id, own)
    check_references(sheet.names, milestone, plan=plan)
    sheet.add((PLAN.section, plan.id, "milestones"), milestone, given)
    return _kept(sheet, plan, (*plan.milestones, milestone), milestone.id)


def complete(sheet: Transaction, plan: Plan, name: str) -> Plan:
    """Raises Conflict when it is over already."""
    milestone = get(plan, name)
    reopen = f"reopen it first: coord update-plan {plan.id} --reopen-milestone {name}"
    check_finish("milestone", name, milestone.status, TodoStatus.COMPLETED, reopen)
    return update(sheet, plan, name, {"status": TodoStatus.COMPLETED})


def update(
    sheet: Transaction, plan: Plan, name: str, changes: Mapping[str, Any] | Callable[[Milestone], Mapping[str, Any]]
) -> Plan:
    before = get(plan, name)
    changes = changes(before) if callable(changes) else changes
    after = judging.changed("milestone", before, changes)
    fields = differing(before, after, changes)
    if not fields:
        return plan
    check_move("milestone", name, before.status, after.status)
    check_references(sheet.names, after, before, plan)
    sheet.set((PLAN.section, plan.id, "milestones", name), fields)
    return _kept(sheet, plan, (after if m is before else m for m in plan.milestones), name)


def remove(sheet: Transaction, plan: Plan, name: str) -> Plan:
    """Raises Conflict while others name it."""
    get(plan, name)
    if references := list(_naming(sheet, plan, name)):
        verb = "names" if len(references) == 1 else "name"
        hint = f"take it out there first; of a milestone: coord update-plan {plan.id} --milestone ID --blocked-by …"
        raise Conflict(f"{name} cannot be deleted: {listed(references)} {verb} it", hint)
    sheet.drop((PLAN.section, plan.id, "milestones", name))
    return _kept(sheet, plan, (m for m in plan.milestones if m.id != name), name)


def _naming(sheet: Transaction, plan: Plan, name: str) -> Iterator[str]:
    """Outside of its plan a name is that of a milestone only where nothing else is called so."""
    plans = sheet.ecosystem.coordination.plans
    shared = name in sheet.names.work or any(m.id == name for p in plans if p.id != plan.id for m in p.milestones)
    for reference, _ in naming(sheet.ecosystem, [name]):
        if reference.field != "plan" and (reference.plan == plan.id or not shared):
            yield str(reference)


def get(plan: Plan, name: str) -> Milestone:
    for milestone in plan.milestones:
        if milestone.id == name:
            return milestone
    raise unknown(f"milestone of {plan.id}", name, [m.id for m in plan.milestones], f"show-plan {plan.id}")


def _kept(sheet: Transaction, plan: Plan, milestones: Iterable[Milestone], touched: str) -> Plan:
    stamp = {"updated": sheet.stamp(plan)}
    sheet.set((PLAN.section, plan.id), stamp)
    after = judging.changed(PLAN.noun, plan, stamp).model_copy(update={"milestones": tuple(milestones)})
    sheet.keep(PLAN, after)
    sheet.touched_milestones.setdefault(plan.id, set()).add(touched)
    return after
