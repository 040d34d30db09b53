"""Checks of a file's dependencies, and the statuses that they change in the file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from coordination.dependencies.check import check, contradictions, cycles
from coordination.dependencies.records import DependencyReport, Outcome
from coordination.ecosystem.document import Document
from coordination.models import Dependency, DependencyStatus
from coordination.tracker.edit.transaction import Transaction
from coordination.tracker.kinds import DEPENDENCY

OnOutcome = Callable[[Outcome], None]
NEWS = frozenset({DependencyStatus.SATISFIED, DependencyStatus.UNSATISFIED})


def run_checks(
    document: Document, wanted: Sequence[Dependency], jobs: int | None, on_outcome: OnOutcome | None
) -> DependencyReport:
    """Check dependencies; contradictions and cycles are searched in all, but reported only if a wanted one
    takes part.
    """
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
