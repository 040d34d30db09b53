"""Completion of plans: what a plan or milestone lacks, and the refusal of an edit that completes it anyway.

A criterion with a command is checked by running it in the file's folder, if that is requested. Unchecked
criteria are reported but do not prevent completion, because only people can judge a sentence. A quality check
counts by its newest recorded result; one without a result is missing.

An edit runs commands and asks Redis outside of the lock of edits: its first try raises `Unjudged` with the
facts that it needs, and its next try has them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

from coordination.ecosystem.document import Document
from coordination.errors import Incomplete, UsageError
from coordination.files import is_there
from coordination.models import Command, Criterion, Ecosystem, Milestone, Plan, PlanStatus, Repo, TodoStatus
from coordination.planner.blockers import CANCELLED
from coordination.text import is_utf8, shortened
from coordination.tracker.kinds import OPEN
from coordination.tracker.queries import due
from coordination.tracker.records import (
    CheckStanding,
    CriterionStanding,
    DeliverableStanding,
    MilestoneStanding,
    PlanCompletion,
)
from coordination.tracker.relations import Relations
from coordination.tracker.transaction import Transaction

CHECK_TIMEOUT = timedelta(seconds=60)
LONGEST_REASON = 1000
"""Characters of the reason for a forced completion."""
LONGEST_FINDING = 300
"""Characters of a finding in an error or event."""
SHOWN = 10
"""Findings in an error, and in an event."""
LAST_LINES = 3
"""Number of lines of a failed check's output that are reported."""

OnCheck = Callable[[Criterion], None]
Results = Mapping[tuple[str, str], CheckStanding]
"""Repository and name of a quality check → its newest result."""
Recorded = Callable[[Plan], Results | None]
"""Returns the results of a plan's quality checks; None where no Redis has any."""


@dataclass(frozen=True, kw_only=True)
class Checks:
    """The check of criteria and deliverables on this machine."""

    folders: tuple[Path, ...]
    """The file's folder, where checks run, then the plan's repositories, which may hold deliverables."""
    run: bool = False
    on_check: OnCheck = lambda criterion: None
    """Called before each command."""
    ran: Mapping[Command, tuple[bool, str]] = field(default_factory=dict)
    """Commands that were run before: whether each succeeded, and why."""
    recorded: Results | None = None
    """Results of the plan's quality checks."""

    def criterion(self, criterion: Criterion) -> CriterionStanding:
        if criterion.check is None:
            return CriterionStanding(text=criterion.text, why="has no command that checks it")
        if criterion.check in self.ran:
            met, why = self.ran[criterion.check]
        elif self.run:
            self.on_check(criterion)
            met, why = run_command(criterion.check, self.folders[0])
        else:
            return CriterionStanding(text=criterion.text, check=criterion.check, why="was not run")
        return CriterionStanding(text=criterion.text, check=criterion.check, met=met, why=why)

    def deliverable(self, text: str) -> DeliverableStanding:
        exists = any(is_there(folder / text) for folder in self.folders)
        is_path = " " not in text and ("/" in text or bool(Path(text).suffix))
        return DeliverableStanding(text=text, present=exists or (False if is_path else None))


def folders_of(document: Document, plan: Plan) -> tuple[Path, ...]:
    """Return the folder of the file, and those of the plan's repositories."""
    repos = {todo.repo for todo in document.ecosystem.todos_of(plan)}.union(plan.repos)
    paths = (document.repo_path(repo) for repo in document.ecosystem.repos if repo.name in repos)
    return (document.path.parent, *(path for path in paths if path is not None))


def wants_checks(plan: Plan) -> bool:
    """Return whether the results of quality checks decide about the plan."""
    return plan.qa.when.after and plan.status is not PlanStatus.CANCELLED


def check_completion(ecosystem: Ecosystem, plan: Plan, checks: Checks, today: date) -> PlanCompletion:
    relations = Relations(ecosystem, plan)
    milestones = tuple(
        milestone_standing(milestone, relations, checks, today) for milestone in plan.milestones
    )
    quality, nothing_known = _quality(ecosystem, plan, checks.recorded)
    todos = ecosystem.todos_of(plan)
    open_todos = relations.describe_all(todo.id for todo in todos if todo.status in OPEN)
    blockers = relations.describe_all(relations.held_by(plan.id))
    claim = f"{plan.id} is completed, but " if plan.status is PlanStatus.COMPLETED else ""
    missing = [
        *([f"{plan.id} is cancelled"] if plan.status is PlanStatus.CANCELLED else []),
        *(f"{claim}{todo.id} is {todo.status}: {todo.title}" for todo in open_todos),
        *(
            f"{plan.id} waits for {relation.id} ({relation.status or 'not declared'})"
            for relation in blockers
        ),
        *(sentence for standing in milestones for sentence in _missing(standing)),
        *not_green(plan, quality),
    ]
    return PlanCompletion(
        plan_id=plan.id,
        title=plan.title,
        status=plan.status,
        complete=not missing,
        milestones=milestones,
        open_todos=open_todos,
        blockers=blockers,
        checks=quality,
        missing=tuple(missing),
        unchecked=(
            *([] if todos or milestones else [f"{plan.id} has neither todos nor milestones"]),
            *(sentence for standing in milestones for sentence in _unchecked(standing)),
            *(f"{repo} declares no check" for repo in nothing_known),
        ),
    )


def checked_repos(ecosystem: Ecosystem, plan: Plan) -> tuple[Repo, ...]:
    """Return the repositories whose quality checks count for the plan."""
    todos = [todo for todo in ecosystem.todos_of(plan) if todo.status not in CANCELLED]
    names = {todo.repo for todo in todos} or set(plan.repos)
    return tuple(repo for repo in ecosystem.repos if repo.name in names)


def _quality(
    ecosystem: Ecosystem, plan: Plan, recorded: Results | None
) -> tuple[tuple[CheckStanding, ...], tuple[str, ...]]:
    """Return the newest results of the checks that the plan wants, and its repositories that declare none."""
    if not wants_checks(plan):
        return (), ()
    repos = checked_repos(ecosystem, plan)
    nothing = "has no recorded result" if recorded is not None else "has no result that Redis knows"
    none = {
        (repo.name, check.name): CheckStanding(repo=repo.name, check=check.name, why=nothing)
        for repo in repos
        for check in repo.qa
    }
    known = recorded or {}
    standings = tuple(known.get(name, standing) for name, standing in none.items())
    return standings, tuple(repo.name for repo in repos if not repo.qa)


def not_green(plan: Plan, checks: Iterable[CheckStanding]) -> Iterator[str]:
    """Yield a sentence for each quality check that keeps the plan from being complete."""
    done = plan.status is PlanStatus.COMPLETED  # results are forgotten with their runs
    for check in checks:
        if check.accepted or (done and check.verdict is None):
            continue
        why = f" ({check.why})" if check.why else ""
        state = f"is {check.verdict}{why}" if check.verdict else check.why
        yield f"check {check.check} of {check.repo} {state}"


def milestone_standing(
    milestone: Milestone, relations: Relations, checks: Checks, today: date
) -> MilestoneStanding:
    return MilestoneStanding(
        id=milestone.id,
        name=milestone.name,
        status=milestone.status,
        due=due(milestone.due) if milestone.due else None,
        overdue=milestone.status in OPEN and due(milestone.due) < today,
        waits_for=relations.describe_all(relations.held_by(milestone.id)),
        criteria=tuple(map(checks.criterion, milestone.completion_criteria)),
        deliverables=tuple(map(checks.deliverable, milestone.deliverables)),
    )


def _missing(milestone: MilestoneStanding) -> Iterator[str]:
    if milestone.status in CANCELLED:
        return
    if milestone.status in OPEN:
        late = f", due {milestone.due}" if milestone.overdue else ""
        yield f"{milestone.id} is {milestone.status}{late}: {milestone.name}"
    claim = (
        f"{milestone.id} is completed, but "
        if milestone.status is TodoStatus.COMPLETED
        else f"{milestone.id}: "
    )
    yield from (f"{claim}{condition}" for condition in unmet_conditions(milestone))


def unmet_conditions(milestone: MilestoneStanding) -> Iterator[str]:
    """Yield the unfulfilled conditions of a milestone, except its status."""
    for relation in milestone.waits_for:
        yield f"it waits for {relation.id} ({relation.status or 'not declared'})"
    for criterion in milestone.criteria:
        if criterion.met is False:
            yield f"does not hold: {criterion.text} ({criterion.why})"
    for deliverable in milestone.deliverables:
        if deliverable.present is False:
            yield f"is not there: {deliverable.text}"


def _unchecked(milestone: MilestoneStanding) -> Iterator[str]:
    if milestone.status in CANCELLED:
        return
    for criterion in milestone.criteria:
        if criterion.met is None:
            yield f"{milestone.id}: {criterion.text} ({criterion.why})"
    for deliverable in milestone.deliverables:
        if deliverable.present is None:
            yield f"{milestone.id}: {deliverable.text} (is not a path)"


def run_command(command: Command, folder: Path) -> tuple[bool, str]:
    """Return whether the command succeeds, and its output or the reason if not."""
    from coordination.dependencies.command import run  # takes 10 ms, for few commands
    from coordination.user_program import NotStarted

    try:
        result = run(command, folder=folder, timeout=CHECK_TIMEOUT)
    except NotStarted as error:
        return False, str(error)
    if result.code is None:
        return False, f"took longer than {CHECK_TIMEOUT.total_seconds():g} s"
    lines = " | ".join([line for line in result.output.last if line.strip()][-LAST_LINES:])
    failure = f"exit {result.code}: {lines}" if lines else f"exit {result.code}"
    return result.code == 0, failure if result.code else lines


@dataclass(frozen=True, kw_only=True)
class Force:
    """A person's decision to complete something although it lacks something."""

    reason: str


def read_force(force: bool, reason: str) -> Force | None:
    """Return the decision; None where nothing is forced. Raises UsageError for one without the other."""
    text = " ".join(reason.split())
    if force and not text:
        raise UsageError("--force needs a reason, which the history keeps", 'add one: --reason "…"')
    if text and not force:
        raise UsageError("--reason says why something is forced, and nothing is", "add --force")
    if not is_utf8(text) or len(text) > LONGEST_REASON:
        raise UsageError(
            f"the reason is not UTF-8, or longer than {LONGEST_REASON:,} characters", "shorten it"
        )
    return Force(reason=text) if force else None


class Unjudged(Exception):
    """The edit can be judged only with the results of these plans' quality checks and of these criteria."""

    def __init__(
        self, plans: Iterable[Plan], criteria: Iterable[Criterion], repos: Iterable[frozenset[str]]
    ) -> None:
        """`repos`: of each plan whose criteria these are."""
        super().__init__()
        self.plans = tuple(plans)
        self.criteria = tuple(criteria)
        self.repos = frozenset(repos)


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
            missing = [sentence for of_record in findings.values() for sentence in of_record]
            if missing and self._force is None:
                raise _refusal(one, list(dict.fromkeys(missing)))
            overridden += missing
            for subject, of_record in findings.items():
                if self._force is not None:
                    transaction.remark(subject, reason=self._force.reason, forced_over=_shortened(of_record))
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

    def _require_known(self, completed: Collection[_Completed]) -> None:
        plans = [one.plan for one in completed if wants_checks(one.plan) and one.plan.id not in self._results]
        criteria = [
            criterion
            for one in completed
            for milestone in one.judged
            for criterion in milestone.completion_criteria
            if criterion.check is not None and criterion.check not in self._ran
        ]
        if plans or (criteria and not self._force):
            repos = (frozenset(one.plan.repos) for one in completed)
            raise Unjudged(plans, criteria if not self._force else (), repos)

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
        incomplete = {
            f"{plan.id}/{one.id}": [*(f"{one.id}: {condition}" for condition in unmet_conditions(one)), *red]
            for one in standing.milestones
            if one.id in names
        }
        return {plan.id: list(standing.missing), **incomplete} if completed.whole else incomplete


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
    lines = [
        f"{', '.join(names)} cannot be completed:",
        *(f"- {sentence}" for sentence in _shortened(missing)),
    ]
    how = "--status completed" if one.whole else f"--complete-milestone {','.join(names)}"
    return Incomplete(
        "\n  ".join(lines),
        f"see all that is missing: coord plan validate {plan} --run-checks; "
        f'complete it all the same: coord plan update {plan} {how} --force --reason "…"',
        missing,
    )


def _shortened(findings: list[str]) -> list[str]:
    more = [f"{len(findings) - SHOWN:,} more"] if len(findings) > SHOWN else []
    return [*(shortened(sentence, LONGEST_FINDING) for sentence in findings[:SHOWN]), *more]
