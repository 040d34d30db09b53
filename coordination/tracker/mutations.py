"""Creation, update, completion and deletion of records, with notes about consequences for the user; checks of
dependencies, and the statuses that they change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from coordination.errors import Conflict, UsageError
from coordination.models import (
    Dependency,
    DependencyStatus,
    Ecosystem,
    Issue,
    IssueStatus,
    Milestone,
    Plan,
    PlanStatus,
    Todo,
    TodoStatus,
)
from coordination.planner.blockers import CANCELLED, FINISHED
from coordination.text import counted, cycle_text, cycle_through, listed
from coordination.tracker.kinds import (
    DEPENDENCY,
    ISSUE,
    KINDS,
    OPEN,
    PLAN,
    TODO,
    Kind,
    R,
    check_finish,
    unknown,
)
from coordination.tracker.milestones import get as get_milestone
from coordination.tracker.milestones import update as update_milestone
from coordination.tracker.records import DeletePreview, Edited, Removed
from coordination.tracker.relations import Reference, Relations, became_ready, references_to
from coordination.tracker.transaction import Transaction

if TYPE_CHECKING:
    from coordination.dependencies.records import DependencyReport, Outcome
    from coordination.ecosystem.document import Document

Fields = Mapping[str, Any]
CHECKED = frozenset({DependencyStatus.SATISFIED, DependencyStatus.UNSATISFIED})
"""Statuses that a check writes into the file."""


def create_records(transaction: Transaction, kind: Kind[R], records: Iterable[Fields]) -> tuple[Edited, ...]:
    """Create records; a later one may name an earlier one. The last result holds the ids
    that became ready.
    """
    new_records = list(records)
    created = [
        (_create(transaction, kind, fields, i if len(new_records) > 1 else None), fields)
        for i, fields in enumerate(new_records, 1)
    ]
    ready = release_ready(transaction)
    return tuple(
        Edited(
            record=record,
            changed=tuple(name for name, value in fields.items() if value is not None),
            ready=ready if record is created[-1][0] else (),
            notes=(
                *_unchecked(transaction.ecosystem, record),
                *_new_work_notes(transaction.ecosystem, None, record),
                *_uncheckable(record),
            ),
        )
        for record, fields in created
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
    has_new_milestones = record is not before
    record, changed = transaction.update(kind, record, changes(record) if callable(changes) else changes)
    ready = release_ready(transaction)  # may change the record again
    record = transaction.get(kind, record.id)
    more = ("milestones",) if has_new_milestones else ()
    notes = (
        *_status_notes(transaction.ecosystem, before, record),
        *_new_work_notes(transaction.ecosystem, before, record),
    )
    notes += tuple(_uncheckable(record)) if changed else ()
    return Edited(record=record, changed=(*more, *changed), ready=ready, notes=notes)


def finish_record(transaction: Transaction, kind: Kind[R], record: R, changes: Fields) -> Edited:
    """Finish a record. Raises Conflict if it is finished already."""
    reopen = f"reopen it first: coord {kind.noun} update {record.id} --status pending"
    check_finish(kind.noun, record.id, record.status, changes["status"], reopen)
    return update_record(transaction, kind, record, record, changes)


def _status_notes(ecosystem: Ecosystem, before: R, after: R) -> Iterator[str]:
    """Yield notes about the consequences of a new status."""
    if isinstance(after, Dependency) or before.status == after.status:
        return
    relations = Relations(ecosystem)
    if after.status in FINISHED and (blockers := relations.held_by(after.id)):
        yield f"{after.id} is {after.status}, though it waited for {listed(blockers)}"
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
    open_todos = [todo.id for todo in ecosystem.todos_of(plan) if todo.plan and todo.status in OPEN]
    if open_todos:
        verb = "is" if len(open_todos) == 1 else "are"
        yield (f"{counted(len(open_todos), 'todo')} of {plan.id} {verb} open: {listed(open_todos)}")


def _plan_done_notes(ecosystem: Ecosystem, plan_id: str) -> Iterator[str]:
    for plan in ecosystem.coordination.plans:
        if (
            plan.id == plan_id
            and plan.status in OPEN
            and all(t.status not in OPEN for t in ecosystem.todos_of(plan))
        ):
            yield (
                f"{plan_id} has no open todo left; check whether it is complete: "
                f"coord plan validate {plan_id}"
            )


def _new_work_notes(ecosystem: Ecosystem, before: R | None, after: R) -> Iterator[str]:
    """Yield a note if a completed plan gets new work."""
    name = after.id if isinstance(after, Plan) else after.plan if isinstance(after, Todo) else None
    plan = next(
        (p for p in ecosystem.coordination.plans if p.id == name and p.status is PlanStatus.COMPLETED), None
    )
    if plan is None:
        return
    open_before, open_now = _open_in(before), _open_in(after)
    if new := [work for work in open_now if work not in open_before]:
        yield (
            f"{plan.id} is completed but gets new open work, {listed(new)}: "
            f"coord plan update {plan.id} --status active"
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
    """Check dependencies on this machine, up to `jobs` at once."""
    from coordination.dependencies.check import check_all  # takes 70 ms

    ecosystem = document.ecosystem
    places = {repo.name: document.repo_path(repo) for repo in ecosystem.repos}
    folder = document.path.absolute().parent
    every = ecosystem.coordination.dependencies
    return check_all(wanted, every, places, folder=folder, progress=on_outcome, jobs=jobs)


def changed_outcomes(document: Document, outcomes: Collection[Outcome]) -> list[Outcome]:
    known = {d.id: d.status for d in document.ecosystem.coordination.dependencies}
    return [o for o in outcomes if o.status in CHECKED and known.get(o.id) != o.status]


def record_outcomes(
    transaction: Transaction, checked: Document, outcomes: Collection[Outcome]
) -> tuple[str, ...]:
    """Write the statuses and return the ids written. Records that were changed since the check are left
    alone.
    """
    before = {d.id: d for d in checked.ecosystem.coordination.dependencies}
    written = []
    for outcome in outcomes:
        record = transaction.find(DEPENDENCY, outcome.id)
        if record is not None and record == before[outcome.id]:
            transaction.update(DEPENDENCY, record, {"status": outcome.status})
            written.append(outcome.id)
    return tuple(written)


def preview_deletion(ecosystem: Ecosystem, name: str) -> DeletePreview:
    """Return what a deletion would remove. Raises NotFound."""
    known = [record.id for kind in KINDS for record in kind.all(ecosystem)]
    if name not in known:
        raise unknown("record", name, known, "ecosystem status")
    deleted = _todos_of(ecosystem, name)
    released = tuple(map(str, _released_references(ecosystem, _deleted_ids(ecosystem, name, deleted))))
    return DeletePreview(id=name, deleted=deleted, released=released)


def delete(transaction: Transaction, kind: Kind[R], record: R, cascade: bool) -> Removed:
    """Delete a record. Raises Conflict if others name it, unless `cascade` is set."""
    preview = preview_deletion(transaction.ecosystem, record.id)
    if preview and not cascade:
        raise Conflict(
            f"{record.id} cannot be deleted: {_reasons(preview)}",
            "add --cascade to delete or change those records, too",
        )
    gone = _deleted_ids(transaction.ecosystem, record.id, preview.deleted)
    for reference in _released_references(transaction.ecosystem, gone):
        _remove_names(transaction, reference, gone)
    for name in preview.deleted:
        transaction.remove(TODO, name)
    transaction.remove(kind, record.id)
    return Removed(
        record=record, also=preview.deleted, released=preview.released, ready=release_ready(transaction)
    )


def has_unlanded_work(noun: str, name: str, change_sets: Sequence[str]) -> Conflict:
    """Return the error for a deletion that does not say what becomes of these change sets."""
    have = "has a change set" if len(change_sets) == 1 else "have change sets"
    return Conflict(
        f"{name} cannot be deleted: {listed(change_sets)} {have} with work that has not landed",
        f"see it: coord changes {change_sets[0]}; land it before: coord land {change_sets[0]}; "
        f"or say what becomes of it: coord {noun} delete {name} --change-set discard, or keep",
    )


def _todos_of(ecosystem: Ecosystem, name: str) -> tuple[str, ...]:
    """Return the todos that name the plan."""
    if any(plan.id == name for plan in ecosystem.coordination.plans):
        return tuple(todo.id for todo in ecosystem.coordination.todos if todo.plan == name)
    return ()


def _deleted_ids(ecosystem: Ecosystem, name: str, todos: Iterable[str]) -> set[str]:
    """Return all ids that will no longer exist, including those of a plan's milestones unless another plan
    has one of that name.
    """
    plans = ecosystem.coordination.plans
    own = {m.id for plan in plans if plan.id == name for m in plan.milestones}
    return {name, *todos} | (own - {m.id for plan in plans if plan.id != name for m in plan.milestones})


def _released_references(ecosystem: Ecosystem, gone: set[str]) -> list[Reference]:
    return [
        reference
        for reference, _ in references_to(ecosystem, gone)
        if reference.field != "plan" and reference.owner not in gone and reference.plan not in gone
    ]


def _remove_names(transaction: Transaction, reference: Reference, gone: set[str]) -> None:
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


def _reasons(preview: DeletePreview) -> str:
    reasons = []
    if preview.deleted:
        reasons.append(
            f"{listed(preview.deleted)} {'belongs' if len(preview.deleted) == 1 else 'belong'} to it"
        )
    if preview.released:
        reasons.append(f"{listed(preview.released)} {'names' if len(preview.released) == 1 else 'name'} it")
    return ", and ".join(reasons)


def check_cycles(transaction: Transaction, after: Relations) -> None:
    """Raise UsageError with the first cycle that the operation would close; existing cycles are accepted."""
    for name in transaction.reordered:
        if (cycle := _cycle(after, name)) and not _cycle(transaction.relations_before, name):
            raise UsageError(f"a cycle: {cycle_text(cycle)}", "remove one of these dependencies first")


def _cycle(relations: Relations, name: str) -> list[str]:
    return cycle_through(name, relations.trace(name)) if name in relations.items else []


def release_ready(transaction: Transaction) -> tuple[str, ...]:
    """Set blocked records that became ready to pending; return the ids of all that became ready, milestones
    as `PLAN-001.M2`. Raises UsageError if the operation would close a cycle.
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
    plan_before = next((old for old in PLAN.all(transaction.before) if old.id == plan.id), None)
    if plan_before is None:
        return
    before, after = Relations(transaction.before, plan_before), Relations(transaction.ecosystem, plan)
    own = {m.id for m in plan.milestones}
    for name in became_ready(
        before, after, {*transaction.touched, *transaction.touched_milestones.get(plan.id, ())}
    ):
        if not isinstance(after.items[name], Milestone):
            yield name
        elif name in own:
            yield f"{plan.id}.{name}"


def _unblock(transaction: Transaction, name: str) -> None:
    if name in transaction.explicit_status:
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
                update_milestone(transaction, plan, milestone.id, {"status": TodoStatus.PENDING})
