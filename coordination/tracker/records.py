"""What the desk answers with: frozen, and the same as JSON for commands and tools."""

from __future__ import annotations

from datetime import date

from pydantic import BaseModel, ConfigDict

from coordination.models import Dependency, Issue, Plan, PlanStatus, Repo, Todo, TodoStatus


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Edited(Answer):
    """A record as it stands after a change."""

    record: Issue | Plan | Todo | Dependency
    changed: tuple[str, ...] = ()
    """The fields that were written. Nothing: it stood so already, and the file was not touched."""
    ready: tuple[str, ...] = ()
    """What waits for nothing any more since this change; whatever of it was `blocked` is `pending` now."""
    notes: tuple[str, ...] = ()
    """What the person should know, a sentence each."""


class DeletePreview(Answer):
    """What a deletion takes along."""

    id: str
    deleted: tuple[str, ...] = ()
    """Other records that go too: a plan's todos."""
    released: tuple[str, ...] = ()
    """References that are taken out of records that stay, like `TODO-005.blocked_by`."""

    def __bool__(self) -> bool:
        return bool(self.deleted or self.released)


class Removed(Answer):
    """A record that is no longer in the file."""

    record: Issue | Plan | Todo | Dependency
    also: tuple[str, ...] = ()
    """Ids of the records that went with it."""
    released: tuple[str, ...] = ()
    ready: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Relation(Answer):
    """Another record that this one waits for, or that waits for it."""

    id: str
    kind: str
    """issue, plan, todo, milestone; `unknown` for what the file does not declare."""
    title: str = ""
    status: str = ""
    repos: tuple[str, ...] = ()
    plan: str | None = None
    holds: bool = True
    """Whether it is waited for still: false when the blocker is finished."""


class HeldUp(Answer):
    """Work that waits for an issue, directly or at the end of a chain."""

    work: Relation
    chain: tuple[str, ...]
    """From the issue to this record, both included."""


class BlockingIssue(Answer):
    issue: Issue
    holds_up: tuple[HeldUp, ...]


class BlockedTodo(Answer):
    todo: Todo
    by: tuple[Relation, ...]
    """Nothing: somebody set it to `blocked` by hand."""


Counts = dict[str, int]
"""How many records of each status."""


class TodoInView(Todo):
    """A todo as views show it: in progress while a run executes it, whatever the file says."""

    run_id: str | None = None


class RepoStatus(Answer):
    """Everything that concerns one repository."""

    repo: Repo
    path: str | None
    present: bool
    """Whether the folder is on this machine."""
    counts: dict[str, Counts]
    """By kind: issues, plans, todos."""
    issues: tuple[Issue, ...]
    """The open ones."""
    in_progress: tuple[TodoInView, ...]
    ready: tuple[Todo, ...]
    """Pending, and nothing is waited for."""
    blocked: tuple[BlockedTodo, ...]
    plans: tuple[Plan, ...]
    """Those that are not over and name the repository, or have an open todo in it."""
    needs: tuple[Dependency, ...]
    """On other repositories."""
    needed_by: tuple[Dependency, ...]
    blocking_issues: tuple[str, ...]


class Overdue(Answer):
    id: str
    kind: str
    title: str
    due: date
    days: int
    plan: str | None = None
    """Of a milestone."""


class Holding(Answer):
    """Something open, and how much open work stands behind it."""

    work: Relation
    holds_up: int


class RepoLine(Answer):
    name: str
    present: bool
    open_issues: int = 0
    ready: int = 0
    in_progress: int = 0
    blocked: int = 0
    done: int = 0
    unsatisfied: int = 0
    """Dependencies on others."""


class EcosystemStatus(Answer):
    """Where everything stands."""

    counts: dict[str, Counts]
    ready: tuple[Todo, ...]
    blocked: tuple[BlockedTodo, ...]
    overdue: tuple[Overdue, ...]
    most_blocking: tuple[Holding, ...]
    """What is open and holds up most, the heaviest first."""
    repos: tuple[RepoLine, ...]


class CriterionStanding(Answer):
    text: str
    check: str | tuple[str, ...] | None = None
    met: bool | None = None
    """None: nobody checked it."""
    why: str = ""
    """What the check said, or why nothing is known."""


class DeliverableStanding(Answer):
    text: str
    present: bool | None = None
    """Whether the file is there; None for what is no path."""


class MilestoneStanding(Answer):
    id: str
    name: str
    status: TodoStatus
    due: date | None
    overdue: bool
    waits_for: tuple[Relation, ...]
    criteria: tuple[CriterionStanding, ...]
    deliverables: tuple[DeliverableStanding, ...]


class PlanCompletion(Answer):
    """Whether a plan may count as done, and everything that speaks against it."""

    plan_id: str
    title: str
    status: PlanStatus
    complete: bool
    milestones: tuple[MilestoneStanding, ...]
    open_todos: tuple[Relation, ...]
    blockers: tuple[Relation, ...]
    """Open, and not part of the plan."""
    missing: tuple[str, ...]
    """What must be done before it is complete, a sentence each."""
    unchecked: tuple[str, ...]
    """What nobody has checked; it does not count against the plan."""
