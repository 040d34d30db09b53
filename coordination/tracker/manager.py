"""Dependencies checked on this machine, and what of that goes into the file.

Only news is written: a status that differs from the one in the file. What could not be found out here (the provider is not
on this machine, there is nothing to check by) leaves the file as it is: on another machine, or by hand, somebody knew better.

Everything that the file declares, asked for and changed: the deeds behind the commands, and behind the agents' tools.

    manager = CoordinationManager.open("ecosystem.yaml")
    todo = manager.create_todo(task="Raise the timeout", repo="api", plan="PLAN-001").record
    manager.complete_todo(todo.id, actual_hours=0.5)

Each deed is one edit of the file: all of it is in the file afterwards, or nothing (`ecosystem/editing.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from coordination.dependencies.check import check, contradictions, cycles
from coordination.dependencies.records import DependencyReport, Outcome
from coordination.ecosystem.document import Document
from coordination.ecosystem.editing import Edit, edit
from coordination.models import (
    Dependency,
    DependencyStatus,
    Issue,
    IssueStatus,
    Milestone,
    Plan,
    Todo,
    TodoStatus,
)
from coordination.tracker import deletion, finishing, milestones, queries
from coordination.tracker.judging import fields_of
from coordination.tracker.kinds import DEPENDENCY, ISSUE, KINDS, PLAN, TODO, Kind, R
from coordination.tracker.queries import Wanted
from coordination.tracker.reading import Reader
from coordination.tracker.records import (
    Edited,
    Removed,
)
from coordination.tracker.sheet import Transaction

OnOutcome = Callable[[Outcome], None]
NEWS = frozenset({DependencyStatus.SATISFIED, DependencyStatus.UNSATISFIED})


def run_checks(
    document: Document, wanted: Sequence[Dependency], jobs: int | None, on_outcome: OnOutcome | None
) -> DependencyReport:
    """Of contradictions and cycles those that a wanted dependency has part in, though they are sought among all."""
    every = document.ecosystem.coordination.dependencies
    ids = {d.id for d in wanted}
    places = {repo.name: document.repo_path(repo) for repo in document.ecosystem.repos}
    outcomes = check(wanted, places, folder=document.path.absolute().parent, progress=on_outcome, jobs=jobs)
    return DependencyReport(
        outcomes=outcomes,
        contradictions=tuple(c for c in contradictions(every, places) if ids & {demand.id for demand in c.demands}),
        cycles=tuple(c for c in cycles(every) if not ids.isdisjoint(c.dependencies)),
    )


def changed_outcomes(document: Document, outcomes: Collection[Outcome]) -> list[Outcome]:
    known = {d.id: d.status for d in document.ecosystem.coordination.dependencies}
    return [o for o in outcomes if o.status in NEWS and known.get(o.id) != o.status]


def record_outcomes(sheet: Transaction, checked: Document, found: Collection[Outcome]) -> tuple[str, ...]:
    """Ids of those that are written. Whatever somebody has changed since it was checked is left alone."""
    before = {d.id: d for d in checked.ecosystem.coordination.dependencies}
    written = []
    for outcome in found:
        record = sheet.find(DEPENDENCY, outcome.id)
        if record is not None and record == before[outcome.id]:
            sheet.update(DEPENDENCY, record, {"status": outcome.status})
            written.append(outcome.id)
    return tuple(written)


D = TypeVar("D")
Fields = Mapping[str, Any]
"""By the file's names."""
Changes = Fields | Callable[[R], Fields]
"""None takes a field out, a list replaces the list. What depends on what stands there, like one more label, is a function
of the record: asked when the file is written, so that nothing of another writer is lost.
"""


class CoordinationManager(Reader):
    """The records of one file, to be read and changed.

    Deeds raise NotFound and UsageError for what the file could not hold, Conflict for what a status does not allow
    (`states.py`), EditConflict and CoordinationError where the file cannot be written; it is then as it was.
    """

    # Issues

    def create_issue(self, record: Issue | Fields = {}, /, **fields: Any) -> Edited:  # noqa: B006 - nobody writes to it
        """Create a record or its fields, or both: `title` at least; without an `id` it gets the next one."""
        return self._create(ISSUE, {**fields_of(record), **fields})

    def update_issue(self, issue_id: str, changes: Changes[Issue]) -> Edited:
        return self._update(ISSUE, issue_id, changes)

    def close_issue(self, issue_id: str) -> Edited:
        """Raises Conflict when it is closed already."""
        return self._finish(ISSUE, issue_id, {"status": IssueStatus.CLOSED})

    def delete_issue(self, issue_id: str, cascade: bool = False) -> Removed:
        """Raises Conflict while others name it; with `cascade` it is taken out of them."""
        return self._delete(ISSUE, issue_id, cascade)

    # Todos

    def create_todo(self, record: Todo | Fields = {}, /, **fields: Any) -> Edited:  # noqa: B006 - nobody writes to it
        """Create a record or its fields, or both: `task` and `repo` at least; without an `id` it gets the next one."""
        return self._create(TODO, {**fields_of(record), **fields})

    def update_todo(self, todo_id: str, changes: Changes[Todo]) -> Edited:
        return self._update(TODO, todo_id, changes)

    def complete_todo(self, todo_id: str, actual_hours: float | None = None) -> Edited:
        """Raises Conflict when it is completed or cancelled already."""
        hours = {} if actual_hours is None else {"actual_hours": actual_hours}
        return self._finish(TODO, todo_id, {"status": TodoStatus.COMPLETED, **hours})

    def delete_todo(self, todo_id: str, cascade: bool = False) -> Removed:
        """Raises Conflict while others name it; with `cascade` it is taken out of them."""
        return self._delete(TODO, todo_id, cascade)

    # Plans and their milestones

    def create_plan(self, record: Plan | Fields = {}, /, **fields: Any) -> Edited:  # noqa: B006 - nobody writes to it
        """Create a record or its fields, or both: `title` at least; without an `id` it gets the next one."""
        return self._create(PLAN, {**fields_of(record), **fields})

    def update_plan(
        self,
        plan_id: str,
        changes: Changes[Plan] = {},  # noqa: B006 - a mapping that nobody writes to
        *,
        update_milestones: Mapping[str, Fields | Callable[[Milestone], Fields]] = {},
        complete_milestones: Sequence[str] = (),
        delete_milestones: Sequence[str] = (),
        add_milestones: Sequence[Fields] = (),
    ) -> Edited:
        """All in one edit: the milestones in this order, then the plan, which is not completed while one of them is open.
        A milestone that others name is not deleted.
        """

        def deed(sheet: Transaction) -> Edited:
            plan = before = sheet.get(PLAN, plan_id)
            for name, more in update_milestones.items():
                plan = milestones.update(sheet, plan, name, more)
            for name in complete_milestones:
                plan = milestones.complete(sheet, plan, name)
            for name in delete_milestones:
                plan = milestones.remove(sheet, plan, name)
            for fields in add_milestones:
                plan = milestones.add(sheet, plan, fields)
            return finishing.updated(sheet, PLAN, before, plan, changes)

        return self._edit(deed)

    def add_milestone(self, plan_id: str, **fields: Any) -> Edited:
        """`name` at least; without an `id` it gets the next one of the plan. The record is the plan."""
        return self.update_plan(plan_id, add_milestones=[fields])

    def complete_milestone(self, plan_id: str, milestone_id: str) -> Edited:
        """Raises Conflict when it is completed or cancelled already. The record is the plan."""
        return self.update_plan(plan_id, complete_milestones=[milestone_id])

    def delete_plan(self, plan_id: str, cascade: bool = False) -> Removed:
        """Raises Conflict while others name it; with `cascade` its todos go too, and it is taken out of the others."""
        return self._delete(PLAN, plan_id, cascade)

    # Dependencies

    def create_dependency(self, record: Dependency | Fields = {}, /, **fields: Any) -> Edited:  # noqa: B006 - nobody writes to it
        """Create a record or its fields, or both: `consumer` and `provider` at least; without an `id` it gets the next one."""
        return self._create(DEPENDENCY, {**fields_of(record), **fields})

    def update_dependency(self, dependency_id: str, changes: Changes[Dependency]) -> Edited:
        return self._update(DEPENDENCY, dependency_id, changes)

    def delete_dependency(self, dependency_id: str, cascade: bool = False) -> Removed:
        return self._delete(DEPENDENCY, dependency_id, cascade)

    def check_dependencies(
        self,
        consumer: Wanted = None,
        *,
        ids: Wanted = None,
        type: Wanted = None,
        jobs: int | None = None,
        on_outcome: Callable[[Outcome], None] | None = None,
        write: bool = True,
    ) -> DependencyReport:
        """Check them for real, up to `jobs` (8) at once, and write the statuses that have changed unless `write` is off.

        Whatever ends the call early, a Ctrl-C above all, ends what it has started, and nothing is written.
        """
        # with what reads versions: 30 ms, for those who need it

        wanted = self.list_dependencies(consumer=consumer, type=type)
        if named := queries.values(ids):
            wanted = tuple(d for d in map(self.get_dependency, sorted(named, key=queries.natural)) if d in wanted)
        report = run_checks(self.document, wanted, jobs, on_outcome)
        return self.write_outcomes(report) if write else report

    def write_outcomes(self, report: DependencyReport) -> DependencyReport:
        """Of a check with `write` off: write what is news, for those who want to see the report whether or not that works."""
        before = self.document
        if not (news := changed_outcomes(before, report.outcomes)):
            return report
        return report.model_copy(update={"written": self._edit(lambda sheet: record_outcomes(sheet, before, news))})

    # Many at once

    def create_all(self, noun: str, records: Iterable[Fields]) -> tuple[Edited, ...]:
        """All of them in one edit, or none; `noun` is issue, todo, plan or dependency. A later one may name an earlier one."""
        kind: Kind[Any] = next(kind for kind in KINDS if kind.noun == noun)
        given = list(records)
        return self._edit(lambda sheet: finishing.created(sheet, kind, given))

    # How a deed is done

    def _create(self, kind: Kind[R], fields: Fields) -> Edited:
        return self._edit(lambda sheet: finishing.created(sheet, kind, [fields])[0])

    def _update(self, kind: Kind[R], name: str, changes: Changes[R]) -> Edited:
        def deed(sheet: Transaction) -> Edited:
            record = sheet.get(kind, name)
            return finishing.updated(sheet, kind, record, record, changes)

        return self._edit(deed)

    def _finish(self, kind: Kind[R], name: str, changes: Fields) -> Edited:
        return self._edit(lambda sheet: finishing.finished(sheet, kind, sheet.get(kind, name), changes))

    def _delete(self, kind: Kind[R], name: str, cascade: bool) -> Removed:
        return self._edit(lambda sheet: deletion.delete(sheet, kind, sheet.get(kind, name), cascade))

    def _edit(self, deed: Callable[[Transaction], D]) -> D:
        """The answer of the deed's last round: it is done anew when somebody else saves in between."""
        answers: list[D] = []

        def decide(proposal: Edit) -> None:
            answers.append(deed(Transaction(proposal, self._now())))

        self.document = edit(self.document.path, decide)
        return answers[-1]
