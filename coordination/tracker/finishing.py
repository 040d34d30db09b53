"""Deeds that create and change: what they do beyond the record itself, and what they tell people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from coordination.errors import Conflict, UsageError
from coordination.models import Dependency, Ecosystem, Issue, Plan, PlanStatus, Todo
from coordination.planner.blockers import CANCELLED, FINISHED
from coordination.text import counted, listed
from coordination.tracker.kinds import OPEN, Kind, R, check_finish
from coordination.tracker.readiness import release
from coordination.tracker.records import Edited
from coordination.tracker.sheet import Transaction
from coordination.tracker.ties import Relations

Fields = Mapping[str, Any]


def created(sheet: Transaction, kind: Kind[R], records: Iterable[Fields]) -> tuple[Edited, ...]:
    """A later one may name an earlier one. What becomes ready is said of the last."""
    given = list(records)
    made = [(_create(sheet, kind, fields, i if len(given) > 1 else None), fields) for i, fields in enumerate(given, 1)]
    ready = release(sheet)
    return tuple(
        Edited(
            record=record,
            changed=tuple(name for name, value in fields.items() if value is not None),
            ready=ready if record is made[-1][0] else (),
            notes=(
                *_unchecked(sheet.ecosystem, record),
                *_not_over(sheet.ecosystem, None, record),
                *_uncheckable(record),
            ),
        )
        for record, fields in made
    )


def _create(sheet: Transaction, kind: Kind[R], fields: Fields, position: int | None) -> R:
    """Of several, a refusal says which."""
    try:
        return sheet.create(kind, fields)
    except (UsageError, Conflict) as error:
        if position is None:
            raise
        raise type(error)(f"record {position}: {error.message}", error.hint) from error


def updated(sheet: Transaction, kind: Kind[R], before: R, record: R, changes: Fields | Callable[[R], Fields]) -> Edited:
    """`record` is what other steps of the deed have made of `before` already."""
    was = record
    record, changed = sheet.update(kind, record, changes(record) if callable(changes) else changes)
    if isinstance(record, Plan) and record.status is PlanStatus.COMPLETED and was.status != record.status:
        _check_all_done(sheet.ecosystem, record)
    ready = release(sheet)  # which may change the record once more
    record = sheet.get(kind, record.id)
    more = ("milestones",) if was is not before else ()
    notes = (*_passed_by(sheet.ecosystem, before, record), *_not_over(sheet.ecosystem, before, record))
    notes += tuple(_uncheckable(record)) if changed else ()
    return Edited(record=record, changed=(*more, *changed), ready=ready, notes=notes)


def finished(sheet: Transaction, kind: Kind[R], record: R, changes: Fields) -> Edited:
    """Raises Conflict when it is over already."""
    reopen = f"reopen it first: coord update-{kind.noun} {record.id} --status pending"
    check_finish(kind.noun, record.id, record.status, changes["status"], reopen)
    return updated(sheet, kind, record, record, changes)


def _check_all_done(ecosystem: Ecosystem, plan: Plan) -> None:
    """Raises Conflict with what is open: a plan that counts as done is no longer looked at."""
    todos = [todo.id for todo in ecosystem.todos_of(plan) if todo.status in OPEN]
    milestones = [m.id for m in plan.milestones if m.status in OPEN]
    words = [
        f"{counted(len(names), noun)} of it {'is' if len(names) == 1 else 'are'} open: {listed(names)}"
        for names, noun in ((todos, "todo"), (milestones, "milestone"))
        if names
    ]
    if words:
        hint = f"complete or cancel them; everything that is missing: coord validate-plan {plan.id}"
        raise Conflict(f"{plan.id} cannot be completed: {'; '.join(words)}", hint)


def _passed_by(ecosystem: Ecosystem, before: R, after: R) -> Iterator[str]:
    """What a person should know about a new status."""
    if isinstance(after, Dependency) or before.status == after.status:
        return
    ties = Relations(ecosystem)
    if after.status in FINISHED and (held := ties.held_by(after.id)):
        yield f"{after.id} is {after.status}, though it waited for {listed(held)}"
    if after.status in CANCELLED and (waiting := [n for n in ties.dependents(after.id) if ties.is_open(n)]):
        verb = "waits" if len(waiting) == 1 else "wait"
        yield f"{listed(waiting)} {verb} for {after.id}, which will not be done: take it out of their blockers"
    if isinstance(after, Plan) and after.status in CANCELLED:
        yield from _left_open(ecosystem, after)
    if isinstance(after, Todo) and after.status not in OPEN and after.plan:
        yield from _plan_is_through(ecosystem, after.plan)


def _left_open(ecosystem: Ecosystem, plan: Plan) -> Iterator[str]:
    still = [todo.id for todo in ecosystem.todos_of(plan) if todo.plan and todo.status in OPEN]
    if still:
        yield f"{counted(len(still), 'todo')} of {plan.id} {'is' if len(still) == 1 else 'are'} open: {listed(still)}"


def _plan_is_through(ecosystem: Ecosystem, plan_id: str) -> Iterator[str]:
    for plan in ecosystem.coordination.plans:
        if plan.id == plan_id and plan.status in OPEN and all(t.status not in OPEN for t in ecosystem.todos_of(plan)):
            yield f"no todo of {plan_id} is open any more; is it complete: coord validate-plan {plan_id}"


def _not_over(ecosystem: Ecosystem, before: R | None, after: R) -> Iterator[str]:
    """A plan that counts as done has got new work."""
    name = after.id if isinstance(after, Plan) else after.plan if isinstance(after, Todo) else None
    plan = next((p for p in ecosystem.coordination.plans if p.id == name and p.status is PlanStatus.COMPLETED), None)
    if plan is None:
        return
    was, now = _open_in(before), _open_in(after)
    if new := [work for work in now if work not in was]:
        yield f"{plan.id} is completed, and gets {listed(new)} to do: coord update-plan {plan.id} --status active"


def _open_in(record: Any) -> list[str]:
    items = record.milestones if isinstance(record, Plan) else [record] if isinstance(record, Todo) else []
    return [item.id for item in items if item.status in OPEN]


def _uncheckable(record: R) -> Iterator[str]:
    if isinstance(record, Dependency):
        from coordination.dependencies.mistakes import (
            mistakes,
        )  # with what reads versions: 30 ms, for those who need it

        yield from mistakes(record)


def _unchecked(ecosystem: Ecosystem, record: R) -> Iterator[str]:
    """In a file without repositories any name will do, and a misspelt one is not noticed."""
    repo = record.repo if isinstance(record, Todo) else None
    repos = record.repos if isinstance(record, Issue | Plan) else (repo,) if repo else ()
    if repos and not ecosystem.repos:
        yield f"the file declares no repositories; {listed(repos)} could not be checked"
