"""Creating, updating and finishing records, with notes about consequences for the user."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from coordination.errors import Conflict, UsageError
from coordination.models import Dependency, Ecosystem, Issue, Plan, PlanStatus, Todo
from coordination.planner.blockers import CANCELLED, FINISHED
from coordination.text import counted, listed
from coordination.tracker.edit.readiness import release
from coordination.tracker.edit.transaction import Transaction
from coordination.tracker.kinds import OPEN, Kind, R, check_finish
from coordination.tracker.records import Edited
from coordination.tracker.relations import Relations

Fields = Mapping[str, Any]


def create_records(transaction: Transaction, kind: Kind[R], records: Iterable[Fields]) -> tuple[Edited, ...]:
    """Create records; a later one may name an earlier one. The last result holds the ids
    that became ready.
    """
    given = list(records)
    made = [
        (_create(transaction, kind, fields, i if len(given) > 1 else None), fields)
        for i, fields in enumerate(given, 1)
    ]
    ready = release(transaction)
    return tuple(
        Edited(
            record=record,
            changed=tuple(name for name, value in fields.items() if value is not None),
            ready=ready if record is made[-1][0] else (),
            notes=(
                *_unchecked(transaction.ecosystem, record),
                *_new_work_notes(transaction.ecosystem, None, record),
                *_uncheckable(record),
            ),
        )
        for record, fields in made
    )


def _create(transaction: Transaction, kind: Kind[R], fields: Fields, position: int | None) -> R:
    """Create one record. An error names its position among several."""
    try:
        return transaction.create(kind, fields)
    except (UsageError, Conflict) as error:
        if position is None:
            raise
        raise type(error)(f"record {position}: {error.message}", error.hint) from error


def update_record(
    transaction: Transaction, kind: Kind[R], before: R, record: R, changes: Fields | Callable[[R], Fields]
) -> Edited:
    """Update a record. `before` is the record in the file, `record` the result of earlier steps of the same
    operation.
    """
    given = record
    record, changed = transaction.update(kind, record, changes(record) if callable(changes) else changes)
    ready = release(transaction)  # may change the record again
    record = transaction.get(kind, record.id)
    more = ("milestones",) if given is not before else ()
    notes = (
        *_status_notes(transaction.ecosystem, before, record),
        *_new_work_notes(transaction.ecosystem, before, record),
    )
    notes += tuple(_uncheckable(record)) if changed else ()
    return Edited(record=record, changed=(*more, *changed), ready=ready, notes=notes)


def finish_record(transaction: Transaction, kind: Kind[R], record: R, changes: Fields) -> Edited:
    """Finish a record. Raises Conflict if it is finished already."""
    reopen = f"reopen it first: coord update-{kind.noun} {record.id} --status pending"
    check_finish(kind.noun, record.id, record.status, changes["status"], reopen)
    return update_record(transaction, kind, record, record, changes)


def _status_notes(ecosystem: Ecosystem, before: R, after: R) -> Iterator[str]:
    """Yield notes about the consequences of a new status."""
    if isinstance(after, Dependency) or before.status == after.status:
        return
    relations = Relations(ecosystem)
    if after.status in FINISHED and (held := relations.held_by(after.id)):
        yield f"{after.id} is {after.status}, though it waited for {listed(held)}"
    if after.status in CANCELLED and (
        waiting := [n for n in relations.dependents(after.id) if relations.is_open(n)]
    ):
        verb = "waits" if len(waiting) == 1 else "wait"
        yield f"{listed(waiting)} {verb} for {after.id}, which is cancelled: remove it from their blockers"
    if isinstance(after, Plan) and after.status in CANCELLED:
        yield from _open_todo_notes(ecosystem, after)
    if isinstance(after, Todo) and after.status not in OPEN and after.plan:
        yield from _plan_done_notes(ecosystem, after.plan)


def _open_todo_notes(ecosystem: Ecosystem, plan: Plan) -> Iterator[str]:
    still = [todo.id for todo in ecosystem.todos_of(plan) if todo.plan and todo.status in OPEN]
    if still:
        yield (
            f"{counted(len(still), 'todo')} of {plan.id} {'is' if len(still) == 1 else 'are'} open: "
            f"{listed(still)}"
        )


def _plan_done_notes(ecosystem: Ecosystem, plan_id: str) -> Iterator[str]:
    for plan in ecosystem.coordination.plans:
        if (
            plan.id == plan_id
            and plan.status in OPEN
            and all(t.status not in OPEN for t in ecosystem.todos_of(plan))
        ):
            yield (
                f"{plan_id} has no open todo left; check whether it is complete: "
                f"coord validate-plan {plan_id}"
            )


def _new_work_notes(ecosystem: Ecosystem, before: R | None, after: R) -> Iterator[str]:
    """Yield a note if a completed plan gets new work."""
    name = after.id if isinstance(after, Plan) else after.plan if isinstance(after, Todo) else None
    plan = next(
        (p for p in ecosystem.coordination.plans if p.id == name and p.status is PlanStatus.COMPLETED), None
    )
    if plan is None:
        return
    was, now = _open_in(before), _open_in(after)
    if new := [work for work in now if work not in was]:
        yield (
            f"{plan.id} is completed but gets new open work, {listed(new)}: "
            f"coord update-plan {plan.id} --status active"
        )


def _open_in(record: Any) -> list[str]:
    items = record.milestones if isinstance(record, Plan) else [record] if isinstance(record, Todo) else []
    return [item.id for item in items if item.status in OPEN]


def _uncheckable(record: R) -> Iterator[str]:
    if isinstance(record, Dependency):
        from coordination.dependencies.mistakes import mistakes  # takes 30 ms, which other edits need not pay

        yield from mistakes(record)


def _unchecked(ecosystem: Ecosystem, record: R) -> Iterator[str]:
    """Yield a note if the repositories' names cannot be checked, because the file declares none."""
    repo = record.repo if isinstance(record, Todo) else None
    repos = record.repos if isinstance(record, Issue | Plan) else (repo,) if repo else ()
    if repos and not ecosystem.repos:
        yield f"the file declares no repositories; {listed(repos)} could not be checked"
