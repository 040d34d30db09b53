"""Dependencies checked on this machine, and what of that goes into the file.

Only news is written: a status that differs from the one in the file. What could not be found out here (the provider is not
on this machine, there is nothing to check by) leaves the file as it is: on another machine, or by hand, somebody knew better.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from coordination.dependencies.check import check
from coordination.dependencies.contradictions import contradictions, cycles
from coordination.dependencies.records import DependencyReport, Outcome
from coordination.ecosystem.document import Document
from coordination.models import Dependency, DependencyStatus
from coordination.tracker.kinds import DEPENDENCY
from coordination.tracker.sheet import Transaction

OnOutcome = Callable[[Outcome], None]
NEWS = frozenset({DependencyStatus.SATISFIED, DependencyStatus.UNSATISFIED})


def report(
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


def news(document: Document, outcomes: Collection[Outcome]) -> list[Outcome]:
    known = {d.id: d.status for d in document.ecosystem.coordination.dependencies}
    return [o for o in outcomes if o.status in NEWS and known.get(o.id) != o.status]


def write(sheet: Transaction, checked: Document, found: Collection[Outcome]) -> tuple[str, ...]:
    """Ids of those that are written. Whatever somebody has changed since it was checked is left alone."""
    before = {d.id: d for d in checked.ecosystem.coordination.dependencies}
    written = []
    for outcome in found:
        record = sheet.find(DEPENDENCY, outcome.id)
        if record is not None and record == before[outcome.id]:
            sheet.update(DEPENDENCY, record, {"status": outcome.status})
            written.append(outcome.id)
    return tuple(written)
