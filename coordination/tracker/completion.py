"""Check whether a plan is complete: its milestones with criteria and deliverables, its todos, its blockers.

A criterion with a command is checked by running it in the file's folder, if that is requested. Unchecked
criteria are reported but do not prevent completion, because only people can judge a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from coordination.ecosystem.document import Document
from coordination.models import Command, Criterion, Ecosystem, Milestone, Plan, PlanStatus, TodoStatus
from coordination.planner.blockers import CANCELLED
from coordination.tracker.kinds import OPEN
from coordination.tracker.queries import due
from coordination.tracker.records import (
    CriterionStanding,
    DeliverableStanding,
    MilestoneStanding,
    PlanCompletion,
)
from coordination.tracker.relations import Relations

CHECK_TIMEOUT = timedelta(seconds=60)
LAST_LINES = 3
"""Number of lines of a failed check's output that are reported."""

OnCheck = Callable[[Criterion], None]


@dataclass(frozen=True, kw_only=True)
class Checks:
    """Check criteria and deliverables on this machine."""

    folders: tuple[Path, ...]
    """The file's folder, where checks run, followed by the plan's repositories, which may hold deliverables,
    too.
    """
    run: bool = False
    on_check: OnCheck = lambda criterion: None
    """Called before each command."""

    def criterion(self, criterion: Criterion) -> CriterionStanding:
        if criterion.check is None:
            return CriterionStanding(text=criterion.text, why="has no command that checks it")
        if not self.run:
            return CriterionStanding(text=criterion.text, check=criterion.check, why="was not run")
        self.on_check(criterion)
        met, why = _run(criterion.check, self.folders[0])
        return CriterionStanding(text=criterion.text, check=criterion.check, met=met, why=why)

    def deliverable(self, text: str) -> DeliverableStanding:
        present = any((folder / text).exists() for folder in self.folders)
        is_path = "/" in text or bool(Path(text).suffix)
        return DeliverableStanding(
            text=text, present=present or (False if is_path and " " not in text else None)
        )


def checks_of(document: Document, plan: Plan, run: bool, on_check: OnCheck | None) -> Checks:
    repos = {todo.repo for todo in document.ecosystem.todos_of(plan)}.union(plan.repos)
    paths = (document.repo_path(repo) for repo in document.ecosystem.repos if repo.name in repos)
    folders = (document.path.parent, *(path for path in paths if path is not None))
    return Checks(folders=folders, run=run, on_check=on_check or (lambda criterion: None))


def check_completion(ecosystem: Ecosystem, plan: Plan, checks: Checks, today: date) -> PlanCompletion:
    relations = Relations(ecosystem, plan)
    milestones = tuple(_milestone(milestone, relations, checks, today) for milestone in plan.milestones)
    open_todos = relations.describe_all(todo.id for todo in ecosystem.todos_of(plan) if todo.status in OPEN)
    blockers = relations.describe_all(relations.held_by(plan.id))
    claim = f"{plan.id} is completed, but " if plan.status is PlanStatus.COMPLETED else ""
    missing = [
        *_wrong_status(plan),
        *(f"{claim}{todo.id} is {todo.status}: {todo.title}" for todo in open_todos),
        *(
            f"{plan.id} waits for {relation.id} ({relation.status or 'not declared'})"
            for relation in blockers
        ),
        *(words for standing in milestones for words in _missing(standing)),
    ]
    return PlanCompletion(
        plan_id=plan.id,
        title=plan.title,
        status=plan.status,
        complete=not missing,
        milestones=milestones,
        open_todos=open_todos,
        blockers=blockers,
        missing=tuple(missing),
        unchecked=(
            *_empty(ecosystem, plan),
            *(words for standing in milestones for words in _unchecked(standing)),
        ),
    )


def _empty(ecosystem: Ecosystem, plan: Plan) -> Iterator[str]:
    if not plan.milestones and not ecosystem.todos_of(plan):
        yield f"{plan.id} has neither todos nor milestones"


def _wrong_status(plan: Plan) -> Iterator[str]:
    if plan.status is PlanStatus.CANCELLED:
        yield f"{plan.id} is cancelled"


def _milestone(milestone: Milestone, relations: Relations, checks: Checks, today: date) -> MilestoneStanding:
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
    for relation in milestone.waits_for:
        yield f"{claim}it waits for {relation.id} ({relation.status or 'not declared'})"
    for criterion in milestone.criteria:
        if criterion.met is False:
            yield f"{claim}does not hold: {criterion.text} ({criterion.why})"
    for deliverable in milestone.deliverables:
        if deliverable.present is False:
            yield f"{claim}is not there: {deliverable.text}"


def _unchecked(milestone: MilestoneStanding) -> Iterator[str]:
    if milestone.status in CANCELLED:
        return
    for criterion in milestone.criteria:
        if criterion.met is None:
            yield f"{milestone.id}: {criterion.text} ({criterion.why})"
    for deliverable in milestone.deliverables:
        if deliverable.present is None:
            yield f"{milestone.id}: {deliverable.text} (is not a path)"


def _run(command: Command, folder: Path) -> tuple[bool, str]:
    """Return whether the command succeeds, and its output or the reason if not."""
    from coordination.dependencies.command import NotStarted, run  # takes 10 ms, for few commands

    try:
        ended = run(command, folder=folder, timeout=CHECK_TIMEOUT)
    except NotStarted as error:
        return False, str(error)
    if ended.code is None:
        return False, f"took longer than {CHECK_TIMEOUT.total_seconds():g} s"
    said = " | ".join([line for line in ended.output.last if line.strip()][-LAST_LINES:])
    return ended.code == 0, said if ended.code == 0 else f"exit {ended.code}" + (f": {said}" if said else "")
