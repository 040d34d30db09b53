"""Who waits for whom, after a change: no record waits for itself, how much open work stands behind each, and what became ready.

A plan is passed through and not counted: it waits for each of its todos anyway. A record that became ready and stood as `blocked` is
`pending` from then on, in the same edit, unless somebody has just set its status.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from coordination.errors import UsageError
from coordination.models import IssueStatus, Milestone, Plan, TodoStatus
from coordination.text import cycle_through
from coordination.tracker import milestones
from coordination.tracker.kinds import ISSUE, PLAN, TODO
from coordination.tracker.records import Holding
from coordination.tracker.sheet import Transaction
from coordination.tracker.ties import Relations, became_ready


def check_cycles(sheet: Transaction, after: Relations) -> None:
    """Raises UsageError with the first cycle that the deed would close. Whoever only takes one of two apart may do so."""
    for name in sheet.reordered:
        if (cycle := _cycle(after, name)) and not _cycle(sheet.ties_before, name):
            raise UsageError(f"a cycle: {' → '.join(cycle)}", "take one of these dependencies out first")


def _cycle(ties: Relations, name: str) -> list[str]:
    return cycle_through(name, ties.trace(name)) if name in ties.items else []


class Weights:
    """One bit for each record in a set of what stands behind: of 10,000 records that is 12 MB and 0.1 s.

    What lies on a cycle, or before one, has no set.
    """

    def __init__(self, ties: Relations) -> None:
        self._ties = ties
        self._behind = {name: _open_behind(ties, name) for name in ties.items if ties.is_open(name)}
        self._bit = {name: 1 << i for i, name in enumerate(self._behind)}
        self._sets = _sets(self._behind, self._bit)

    def heaviest(self, count: int) -> tuple[Holding, ...]:
        """Of equals those that the file has first."""
        plans = ~self._mask(name for name in self._behind if isinstance(self._ties.items[name], Plan))
        weights = {name: self._weight(name, plans) for name in self._behind}
        found = sorted((name for name in weights if weights[name]), key=lambda name: -weights[name])[:count]
        return tuple(Holding(work=self._ties.tie(name), holds_up=weights[name]) for name in found)

    def holding(self, names: Collection[str], wanted: Collection[str]) -> list[str]:
        """Those of `names` behind which one of `wanted` stands, or might where that is not known."""
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


def _open_behind(ties: Relations, name: str) -> tuple[str, ...]:
    return tuple(other for other in ties.behind.get(name, ()) if ties.is_open(other))


def _sets(behind: Mapping[str, tuple[str, ...]], bit: Mapping[str, int]) -> dict[str, int]:
    """From the ends of all chains backwards (Kahn 1962)."""
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
