"""Results of the tracker's operations: frozen, and shown as the same JSON by commands and tools."""

from __future__ import annotations

from datetime import date
from typing import Any

from coordination.frozen import Awaitable, FrozenModel
from coordination.models import Dependency, Issue, Plan, PlanStatus, Repo, Todo, TodoStatus, presentable


class Edited(Awaitable, FrozenModel):
    """A record after a change."""

    record: Issue | Plan | Todo | Dependency
    changed: tuple[str, ...] = ()
    """Names of the fields that were written; empty if the record had these values already and the file was
    not touched.
    """
    ready: tuple[str, ...] = ()
    """Ids of the records that lost their last blocker through this change; `blocked` ones
    are `pending` now.
    """
    notes: tuple[str, ...] = ()
    """Information for the user, one sentence each."""

    def data(self) -> dict[str, Any]:
        """Return the fields of the record with the consequences of the change."""
        return {**dict(presentable(self.record)), "ready": self.ready, "notes": self.notes}


class GeneratedPlan(FrozenModel):
    """A plan and its todos, as a generator has made them."""

    plan: Plan
    todos: tuple[Todo, ...]
    """Those that others wait for come first."""
    written: bool
    """False for a preview: the file is unchanged."""
    unchecked: tuple[str, ...] = ()
    """Selected repositories that declare no check, although a step runs their own."""
    run_id: str | None = None
    """The run that was started of it."""

    def data(self) -> GeneratedPlan:
        """Return it without secrets of its todos."""
        return self.model_copy(update={"todos": tuple(map(presentable, self.todos))})


class ProposedPlan(GeneratedPlan):
    """A plan and its todos, as an agent has proposed them."""

    work_hours: float = 0.0
    """Sum of the hours of its todos; one without an estimate counts as the median of the others."""
    critical_hours: float = 0.0
    """Hours of the longest chain of todos that wait for each other."""
    cost: str = ""
    """The limit of the cost of its agents, in words."""
    warnings: tuple[str, ...] = ()
    """Sentences on what a person should look at before the plan is written."""
    diff: str = ""
    """Unified difference that the plan makes to the file, without secrets; empty if it is written."""


class DeletePreview(FrozenModel):
    """Consequences of a deletion."""

    id: str
    deleted: tuple[str, ...] = ()
    """Other records that are deleted, too: a plan's todos."""
    released: tuple[str, ...] = ()
    """References that are removed from remaining records, like `TODO-005.blocked_by`."""

    def __bool__(self) -> bool:
        return bool(self.deleted or self.released)


class Removed(FrozenModel):
    """A record that was removed from the file."""

    record: Issue | Plan | Todo | Dependency
    also: tuple[str, ...] = ()
    """Ids of the records that were deleted with it."""
    released: tuple[str, ...] = ()
    ready: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def data(self) -> Removed:
        """Return it without secrets of the record."""
        return self.model_copy(update={"record": presentable(self.record)})


class Relation(FrozenModel):
    """Another record that blocks this one or depends on it."""

    id: str
    kind: str
    """issue, plan, todo or milestone; `unknown` for a name that the file does not declare."""
    title: str = ""
    status: str = ""
    repos: tuple[str, ...] = ()
    plan: str | None = None
    holds: bool = True
    """True while the dependency is unfulfilled: the blocker is not finished."""


class HeldUp(FrozenModel):
    """Work that waits for an issue, directly or through others."""

    work: Relation
    chain: tuple[str, ...]
    """Ids from the issue to this record, both included."""


class BlockingIssue(FrozenModel):
    """An open issue, with the work that waits for it."""

    issue: Issue
    holds_up: tuple[HeldUp, ...]


class BlockedTodo(FrozenModel):
    """A todo that cannot start, with its open blockers."""

    todo: Todo
    by: tuple[Relation, ...]
    """The open blockers; empty if the todo was set to `blocked` by hand, or waits for its turn in a run."""
    run_id: str | None = None
    """The live run in which it waits for its turn."""


Counts = dict[str, int]
"""Number of records by status."""


class TodoInView(Todo):
    """A todo as views show it: in progress while a run executes it, whatever its status in the file."""

    run_id: str | None = None
    """The live run that executes it."""
    run_state: str | None = None
    """Its state in that run: ready, dispatched, running, parked, retrying, compensating or succeeded."""
    worker: str | None = None
    """The worker that executes it, or did so last."""
    since: str | None = None
    """Time at which it came into that state."""
    run_waits_for: str | None = None
    """Text of what it waits for in the run: an approval, the delay before the next attempt …"""


class RepoStatus(FrozenModel):
    """Status of one repository."""

    repo: Repo
    path: str | None
    present: bool
    """True if the folder exists on this machine."""
    counts: dict[str, Counts]
    """Counts by kind: issues, plans, todos."""
    issues: tuple[Issue, ...]
    """The open issues."""
    in_progress: tuple[TodoInView, ...]
    ready: tuple[Todo, ...]
    """Pending todos without open blockers that no live run has."""
    blocked: tuple[BlockedTodo, ...]
    plans: tuple[Plan, ...]
    """Unfinished plans that name the repository or have an open todo in it."""
    needs: tuple[Dependency, ...]
    """Dependencies on other repositories."""
    needed_by: tuple[Dependency, ...]
    blocking_issues: tuple[str, ...]
    runs_known: bool = True
    """False if Redis did not answer: todos that runs execute are shown as in the file."""


class Overdue(FrozenModel):
    """An open record whose date has passed."""

    id: str
    kind: str
    title: str
    due: date
    days: int
    plan: str | None = None
    """Plan of a milestone."""


class Holding(FrozenModel):
    """An open record, and the number of open records that wait for it."""

    work: Relation
    holds_up: int


class RepoLine(FrozenModel):
    """A repository in the status of everything, with numbers of its records."""

    name: str
    present: bool
    open_issues: int = 0
    ready: int = 0
    in_progress: int = 0
    blocked: int = 0
    done: int = 0
    unsatisfied: int = 0
    """Unsatisfied dependencies on other repositories."""


class EcosystemStatus(FrozenModel):
    """Status of all repositories."""

    counts: dict[str, Counts]
    in_progress: tuple[TodoInView, ...]
    ready: tuple[Todo, ...]
    blocked: tuple[BlockedTodo, ...]
    overdue: tuple[Overdue, ...]
    most_blocking: tuple[Holding, ...]
    """Open records with the most open dependents, in descending order."""
    repos: tuple[RepoLine, ...]
    runs_known: bool = True
    """False if Redis did not answer: todos that runs execute are shown as in the file."""


class CriterionStanding(FrozenModel):
    """A completion criterion of a milestone, with the result of its check."""

    text: str
    check: str | tuple[str, ...] | None = None
    met: bool | None = None
    """None if it was not checked."""
    why: str = ""
    """Output of the check, or the reason why there is no result."""


class DeliverableStanding(FrozenModel):
    """A deliverable of a milestone, and whether its file exists."""

    text: str
    present: bool | None = None
    """True if the file exists; None for text that is not a path."""


class CheckStanding(FrozenModel):
    """The newest result of a quality check of a plan's repository."""

    repo: str
    check: str
    verdict: str | None = None
    """None if there is no result that counts."""
    accepted: bool = False
    """True if it is green, or failed before the plan where the plan allows that."""
    why: str = ""
    """The reason of a verdict that is not green, or of its absence."""
    run_id: str | None = None


class MilestoneStanding(FrozenModel):
    """A milestone, with its conditions."""

    id: str
    name: str
    status: TodoStatus
    due: date | None
    overdue: bool
    waits_for: tuple[Relation, ...]
    criteria: tuple[CriterionStanding, ...]
    deliverables: tuple[DeliverableStanding, ...]


class PlanCompletion(FrozenModel):
    """Result of checking whether a plan is complete."""

    plan_id: str
    title: str
    status: PlanStatus
    complete: bool
    milestones: tuple[MilestoneStanding, ...]
    open_todos: tuple[Relation, ...]
    blockers: tuple[Relation, ...]
    """Open blockers outside of the plan."""
    checks: tuple[CheckStanding, ...] = ()
    """Quality checks that the plan's `qa` wants behind its todos."""
    missing: tuple[str, ...]
    """Conditions that are not fulfilled, one sentence each."""
    unchecked: tuple[str, ...]
    """Unchecked criteria and deliverables, which do not prevent completion."""
