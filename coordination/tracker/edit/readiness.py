"""Consequences of a change: no cycles, the records that became ready, and how much open work waits for each
record.

Plans are traversed but not counted, because a plan waits for each of its todos anyway. A `blocked` record
that became ready is set to `pending` in the same edit, unless the operation has set its status.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from coordination.errors import UsageError
from coordination.models import IssueStatus, Milestone, Plan, TodoStatus
from coordination.text import cycle_through
from coordination.tracker.edit import milestones
from coordination.tracker.edit.transaction import Transaction
from coordination.tracker.kinds import ISSUE, PLAN, TODO
from coordination.tracker.records import Holding
from coordination.tracker.relations import Relations, became_ready


def check_cycles(transaction: Transaction, after: Relations) -> None:
    """Raise UsageError with the first cycle that the operation would close; existing cycles are accepted."""
    for name in transaction.reordered:
        if (cycle := _cycle(after, name)) and not _cycle(transaction.relations_before, name):
            raise UsageError(f"a cycle: {' → '.join(cycle)}", "remove one of these dependencies first")


def _cycle(relations: Relations, name: str) -> list[str]:
    return cycle_through(name, relations.trace(name)) if name in relations.items else []


class Weights:
    """Sets of open dependents as bit masks: 12 MB and 0.1 s for 10,000 records.

    Records on a cycle, or before one, have no set.
    """

    def __init__(self, relations: Relations) -> None:
        self._relations = relations
        self._behind = {
            name: _open_behind(relations, name) for name in relations.items if relations.is_open(name)
        }
        self._bit = {name: 1 << i for i, name in enumerate(self._behind)}
        self._sets = _sets(self._behind, self._bit)

    def heaviest(self, count: int) -> tuple[Holding, ...]:
        """Return the records with the most open dependents; equal ones in the file's order."""
        plans = ~self._mask(name for name in self._behind if isinstance(self._relations.items[name], Plan))
        weights = {name: self._weight(name, plans) for name in self._behind}
        found = sorted((name for name in weights if weights[name]), key=lambda name: -weights[name])[:count]
        return tuple(Holding(work=self._relations.describe(name), holds_up=weights[name]) for name in found)

    def holding(self, names: Collection[str], wanted: Collection[str]) -> list[str]:
        """Return those of `names` on which one of `wanted` depends, or may depend where that is unknown."""
        mask = self._mask(wanted)
        return [name for name in names if name not in self._sets or self._sets[name] & mask]

    def _weight(self, name: str, counted: int) -> int:
        known = self._sets.get(name)
        return ((self._mask(self._behind[name]) if known is None else known) & counted).bit_count()

    def _mask(self, names: Iterable[str]) -> int:
        mask = 0
        for name in names:
            mask |= self._bit.get(name, 0)
        return mask


def _open_behind(relations: Relations, name: str) -> tuple[str, ...]:
    return tuple(other for other in relations.behind.get(name, ()) if relations.is_open(other))


def _sets(behind: Mapping[str, tuple[str, ...]], bit: Mapping[str, int]) -> dict[str, int]:
    """Return the set of open dependents of each record, computed backwards from the ends of all chains (Kahn
    1962).
    """
    waiting = {name: len(set(others)) for name, others in behind.items()}
    before: dict[str, set[str]] = {name: set() for name in behind}
    for name, others in behind.items():
        for other in others:
            before[other].add(name)
    sets: dict[str, int] = {}
    ahead = [name for name, left in waiting.items() if not left]
    while ahead:
        name = ahead.pop()
        sets[name] = 0
        for other in behind[name]:
            sets[name] |= sets[other] | bit[other]
        for other in before[name]:
            waiting[other] -= 1
            if not waiting[other]:
                ahead.append(other)
    return sets


def release(transaction: Transaction) -> tuple[str, ...]:
    """Return the ids that became ready, milestones as `PLAN-001.M2`. Raises UsageError if the operation would
    close a cycle.
    """
    if not (transaction.touched or transaction.touched_milestones or transaction.reordered):
        return ()
    after = Relations(transaction.ecosystem)
    check_cycles(transaction, after)
    ready = dict.fromkeys(_ready_work(transaction, after))
    for plan in list(_concerned(transaction)):
        ready |= dict.fromkeys(_ready_in(transaction, plan))
    for name in ready:
        _unblock(transaction, name)
    return tuple(ready)


def _ready_work(transaction: Transaction, after: Relations) -> Iterator[str]:
    if transaction.touched:
        for name in became_ready(transaction.relations_before, after, transaction.touched):
            if not isinstance(after.items[name], Milestone):
                yield name


def _concerned(transaction: Transaction) -> Iterator[Plan]:
    """Yield the plans with a changed milestone, or with one that waits for a changed record."""
    for plan in PLAN.all(transaction.ecosystem):
        waits = (name for milestone in plan.milestones for name in milestone.dependencies)
        if plan.id in transaction.touched_milestones or any(name in transaction.touched for name in waits):
            yield plan


def _ready_in(transaction: Transaction, plan: Plan) -> Iterator[str]:
    """Yield the records of a plan that became ready; milestones must be looked up within their plan."""
    was = next((old for old in PLAN.all(transaction.before) if old.id == plan.id), None)
    if was is None:
        return
    before, after = Relations(transaction.before, was), Relations(transaction.ecosystem, plan)
    own = {m.id for m in plan.milestones}
    for name in became_ready(
        before, after, {*transaction.touched, *transaction.touched_milestones.get(plan.id, ())}
    ):
        if not isinstance(after.items[name], Milestone):
            yield name
        elif name in own:
            yield f"{plan.id}.{name}"


def _unblock(transaction: Transaction, name: str) -> None:
    if name in transaction.given_status:
        return
    todo, issue = transaction.find(TODO, name), transaction.find(ISSUE, name)
    if todo and todo.status is TodoStatus.BLOCKED:
        transaction.update(TODO, todo, {"status": TodoStatus.PENDING})
    if issue and issue.status is IssueStatus.BLOCKED:
        transaction.update(ISSUE, issue, {"status": IssueStatus.PENDING})
    if not todo and not issue:
        _unblock_milestone(transaction, name)


def _unblock_milestone(transaction: Transaction, name: str) -> None:
    for plan in PLAN.all(transaction.ecosystem):
        for milestone in plan.milestones:
            if f"{plan.id}.{milestone.id}" == name and milestone.status is TodoStatus.BLOCKED:
                milestones.update(transaction, plan, milestone.id, {"status": TodoStatus.PENDING})
