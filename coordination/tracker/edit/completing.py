"""Refuse an edit that completes an incomplete plan or milestone, unless a person forces it.

A plan is judged as `validate-plan --run-checks` does; a milestone by its own criteria, deliverables and
blockers, and by the quality checks of its plan that are not green. Commands and Redis are asked outside of
the lock of edits: the first try of an edit says what it needs to know (`Unjudged`), the next one knows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from coordination.errors import Incomplete, UsageError
from coordination.models import Command, Criterion, Ecosystem, Milestone, Plan, PlanStatus, TodoStatus
from coordination.text import is_utf8, shortened
from coordination.tracker.completion import (
    Checks,
    OnCheck,
    Recorded,
    Results,
    check_completion,
    folders_of,
    lacks_of,
    not_green,
    run_command,
    wants_checks,
)
from coordination.tracker.edit.transaction import Transaction

LONGEST_REASON = 1000
SHOWN = 10
"""Findings in an error, and in an event."""
LONGEST_FINDING = 300


@dataclass(frozen=True, kw_only=True)
class Force:
    """A person's decision to complete something although it lacks something."""

    reason: str


def read_force(force: bool, reason: str) -> Force | None:
    """Return the decision; None where nothing is forced. Raises UsageError where one is given without the
    other.
    """
    words = " ".join(reason.split())
    if force and not words:
        raise UsageError("--force needs a reason, which the history keeps", 'add one: --reason "…"')
    if words and not force:
        raise UsageError("--reason says why something is forced, and nothing is", "add --force")
    if not is_utf8(words) or len(words) > LONGEST_REASON:
        raise UsageError(
            f"the reason is not UTF-8, or longer than {LONGEST_REASON:,} characters", "shorten it"
        )
    return Force(reason=words) if force else None


class Unjudged(Exception):
    """The edit cannot be judged before these plans and criteria have been validated."""

    def __init__(self, plans: Iterable[Plan], criteria: Iterable[Criterion]) -> None:
        super().__init__()
        self.plans = tuple(plans)
        self.criteria = tuple(criteria)


@dataclass(frozen=True, kw_only=True)
class _Completed:
    """A plan that an edit changes, with what it completes there."""

    plan: Plan
    whole: bool
    milestones: tuple[Milestone, ...]

    @property
    def judged(self) -> tuple[Milestone, ...]:
        """Return the milestones whose criteria count."""
        kept = self.plan.milestones if self.whole else self.milestones
        return tuple(one for one in kept if one.status is not TodoStatus.CANCELLED)


class CompletionGuard:
    """Judges the plans and milestones that one edit completes, over all tries of the edit."""

    def __init__(
        self, today: date, recorded: Recorded, *, force: Force | None = None, on_check: OnCheck | None = None
    ) -> None:
        self._today = today
        self._recorded = recorded
        self._force = force
        self._on_check = on_check or (lambda criterion: None)
        self._ran: dict[Command, tuple[bool, str]] = {}
        self._results: dict[str, Results | None] = {}
        self.overridden: tuple[str, ...] = ()
        """Findings over which the last judged edit completes something."""

    def judge(self, transaction: Transaction) -> None:
        """Raise Incomplete if the edit completes a record that lacks something; Unjudged if that is not yet
        known. A forced completion is remarked in its event, with its reason.
        """
        completed = list(_completed(transaction.before, transaction.ecosystem))
        if self._force and not completed:
            raise UsageError(
                "--force completes a plan or milestone, and this completes none",
                "leave --force and --reason out",
            )
        self._require_known(completed)
        overridden = []
        for one in completed:
            findings = self._findings(transaction, one)
            missing = [words for found in findings.values() for words in found]
            if missing and self._force is None:
                raise _refusal(one, list(dict.fromkeys(missing)))
            overridden += missing
            for subject, found in findings.items():
                if self._force is not None:
                    transaction.remark(subject, reason=self._force.reason, forced_over=_in_short(found))
        self.overridden = tuple(dict.fromkeys(overridden))

    def learn(self, unjudged: Unjudged, folder: Path) -> None:
        """Run the commands in the file's folder, and read the results of quality checks, for the next try.
        Raises Unreachable.
        """
        for plan in unjudged.plans:
            self._results[plan.id] = self._recorded(plan)
        for criterion in unjudged.criteria:
            if criterion.check is not None and criterion.check not in self._ran:
                self._on_check(criterion)
                self._ran[criterion.check] = run_command(criterion.check, folder)

    def _require_known(self, completed: Iterable[_Completed]) -> None:
        plans = [one.plan for one in completed if wants_checks(one.plan) and one.plan.id not in self._results]
        criteria = [
            criterion
            for one in completed
            for milestone in one.judged
            for criterion in milestone.completion_criteria
            if criterion.check is not None and criterion.check not in self._ran
        ]
        if plans or (criteria and not self._force):
            raise Unjudged(plans, criteria if not self._force else ())

    def _findings(self, transaction: Transaction, completed: _Completed) -> dict[str, list[str]]:
        """Return the subject of the event of each completed record → what the record lacks."""
        plan = completed.plan
        checks = Checks(
            folders=folders_of(transaction.document, plan),
            ran=self._ran,
            recorded=self._results.get(plan.id),
        )
        standing = check_completion(transaction.ecosystem, plan, checks, self._today)
        red = list(not_green(plan, [check for check in standing.checks if check.verdict is not None]))
        names = {milestone.id for milestone in completed.milestones}
        found = {
            f"{plan.id}/{one.id}": [*(f"{one.id}: {words}" for words in lacks_of(one)), *red]
            for one in standing.milestones
            if one.id in names
        }
        return {plan.id: list(standing.missing), **found} if completed.whole else found


def _completed(before: Ecosystem, after: Ecosystem) -> Iterator[_Completed]:
    """Yield the plans that are completed now, or have milestones that are, with the status from before."""
    known = {plan.id: plan for plan in before.coordination.plans}
    for plan in after.coordination.plans:
        was = known.get(plan.id)
        if was is plan:
            continue
        done = {m.id for m in was.milestones if m.status is TodoStatus.COMPLETED} if was else set()
        milestones = tuple(
            m for m in plan.milestones if m.status is TodoStatus.COMPLETED and m.id not in done
        )
        whole = plan.status is PlanStatus.COMPLETED and (was is None or was.status is not plan.status)
        if whole or milestones:
            status = PlanStatus.ACTIVE if whole else plan.status
            yield _Completed(
                plan=plan.model_copy(update={"status": status}), whole=whole, milestones=milestones
            )


def _refusal(one: _Completed, missing: list[str]) -> Incomplete:
    plan = one.plan.id
    names = [plan] if one.whole else [milestone.id for milestone in one.milestones]
    lines = [f"{', '.join(names)} cannot be completed:", *(f"- {words}" for words in _in_short(missing))]
    how = "--status completed" if one.whole else f"--complete-milestone {','.join(names)}"
    return Incomplete(
        "\n  ".join(lines),
        f"see all that is missing: coord validate-plan {plan} --run-checks; "
        f'complete it all the same: coord update-plan {plan} {how} --force --reason "…"',
        missing,
    )


def _in_short(findings: list[str]) -> list[str]:
    more = [f"{len(findings) - SHOWN:,} more"] if len(findings) > SHOWN else []
    return [*(shortened(words, LONGEST_FINDING) for words in findings[:SHOWN]), *more]
