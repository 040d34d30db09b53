"""Creating, updating and finishing records, with notes about consequences for the user; checks of
dependencies, and the statuses that they change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from coordination.errors import Conflict, UsageError
from coordination.models import Dependency, DependencyStatus, Ecosystem, Issue, Plan, PlanStatus, Todo
from coordination.planner.blockers import CANCELLED, FINISHED
from coordination.text import counted, listed
from coordination.tracker.edit.readiness import release
from coordination.tracker.edit.transaction import Transaction
from coordination.tracker.kinds import DEPENDENCY, OPEN, Kind, R, check_finish
from coordination.tracker.records import Edited
from coordination.tracker.relations import Relations

if TYPE_CHECKING:
    from coordination.dependencies.records import DependencyReport, Outcome
    from coordination.ecosystem.document import Document

Fields = Mapping[str, Any]
NEWS = frozenset({DependencyStatus.SATISFIED, DependencyStatus.UNSATISFIED})


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
        from coordination.dependencies.probes import mistakes  # takes 30 ms, which other edits need not pay

        yield from mistakes(record)


def _unchecked(ecosystem: Ecosystem, record: R) -> Iterator[str]:
    """Yield a note if the repositories' names cannot be checked, because the file declares none."""
    repo = record.repo if isinstance(record, Todo) else None
    repos = record.repos if isinstance(record, Issue | Plan) else (repo,) if repo else ()
    if repos and not ecosystem.repos:
        yield f"the file declares no repositories; {listed(repos)} could not be checked"


def run_checks(
    document: Document,
    wanted: Sequence[Dependency],
    jobs: int | None,
    on_outcome: Callable[[Outcome], None] | None,
) -> DependencyReport:
    """Check dependencies; contradictions and cycles are searched in all, but reported only if a wanted one
    takes part.
    """
    from coordination.dependencies.check import check, contradictions, cycles  # takes 70 ms
    from coordination.dependencies.records import DependencyReport

    every = document.ecosystem.coordination.dependencies
    ids = {d.id for d in wanted}
    places = {repo.name: document.repo_path(repo) for repo in document.ecosystem.repos}
    outcomes = check(wanted, places, folder=document.path.absolute().parent, progress=on_outcome, jobs=jobs)
    return DependencyReport(
        outcomes=outcomes,
        contradictions=tuple(
            c for c in contradictions(every, places) if ids & {demand.id for demand in c.demands}
        ),
        cycles=tuple(c for c in cycles(every) if not ids.isdisjoint(c.dependencies)),
    )


def changed_outcomes(document: Document, outcomes: Collection[Outcome]) -> list[Outcome]:
    known = {d.id: d.status for d in document.ecosystem.coordination.dependencies}
    return [o for o in outcomes if o.status in NEWS and known.get(o.id) != o.status]


def record_outcomes(
    transaction: Transaction, checked: Document, found: Collection[Outcome]
) -> tuple[str, ...]:
    """Write the statuses and return the ids written. Records that were changed since the check are left
    alone.
    """
    before = {d.id: d for d in checked.ecosystem.coordination.dependencies}
    written = []
    for outcome in found:
        record = transaction.find(DEPENDENCY, outcome.id)
        if record is not None and record == before[outcome.id]:
            transaction.update(DEPENDENCY, record, {"status": outcome.status})
            written.append(outcome.id)
    return tuple(written)
