"""Records of the file and repositories: listed, shown with the state of runs at this moment, created, changed
and deleted.

`coord.manager` has the same operations with plain fields, for scripts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from coordination.api import texts
from coordination.api.completion import Completed, complete, complete_in_run
from coordination.api.parameters import (
    NO_ITEMS,
    REPO_NAME,
    Cascade,
    Clear,
    DependencyId,
    InRun,
    IssueId,
    Lists,
    OfAssignee,
    OfLabel,
    OfPriority,
    OfRepo,
    OfUnlanded,
    PlanId,
    RepoName,
    TodoId,
)
from coordination.declared import Effect, Listing, Option, operation
from coordination.errors import Unreachable, UsageError
from coordination.models import (
    Criterion,
    Dependency,
    DependencyStatus,
    DependencyType,
    Issue,
    IssueStatus,
    Plan,
    PlanStatus,
    Repo,
    Todo,
    TodoStatus,
    presentable,
)
from coordination.tracker.kinds import OPEN
from coordination.tracker.queries import as_view
from coordination.tracker.records import BlockingIssue, TodoInView

if TYPE_CHECKING:  # without a running Redis, a view needs no client of it
    from coordination.api.access import EcosystemAccess
    from coordination.api.fields import (
        DependencyFields,
        IssueFields,
        NewDependency,
        NewIssue,
        NewPlan,
        NewTodo,
        PlanFields,
        TodoFields,
    )
    from coordination.breakers.records import Breaker, Reset
    from coordination.changes.view import ToLand
    from coordination.dependencies.records import DependencyReport
    from coordination.runs.views.todos_in_runs import Asked, LiveTodo
    from coordination.tracker.manager import CoordinationManager
    from coordination.tracker.records import EcosystemStatus, Edited, PlanCompletion, Removed, RepoStatus
    from coordination.tracker.relations import Chains


class LiveView:
    """The state of runs at this moment, for operations on the file: an answer at once, or an empty one.
    Starts nothing.
    """

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    def todo(self, todo: str) -> LiveTodo | None:
        """Return the todo in the newest run that has it."""
        return self._access.ask_live(lambda live: live.todos.newest(todo, self._access.ecosystem_id), None)

    def asking(self) -> Sequence[Asked]:
        """Return the todos that wait for a person, the longest first."""
        return self._access.live_asking()

    def newest_runs(self) -> Mapping[str, str]:
        """Return run → its plan and status, newest first."""
        return self._access.ask_live(lambda live: live.newest_runs(), {})

    def change_sets(self) -> tuple[str, ...]:
        """Return the ids of all change sets."""
        return self._access.ask_live(lambda live: live.change_sets(), ())

    def held_locks(self) -> Mapping[str, str]:
        """Return lock → its holder."""
        return self._access.ask_live(lambda live: live.held_locks(), {})

    def breakers(self) -> tuple[Breaker, ...]:
        """Return the circuit breakers that are not at rest."""
        return self._access.ask_live(lambda live: live.breakers(), ())

    def breaker_resets(self, limit: int) -> tuple[Reset, ...]:
        """Return the circuit breakers that were closed by hand, latest first."""
        return self._access.ask_live(lambda live: live.breaker_resets(limit), ())

    def messages_for(self, repo: str) -> int:
        """Return the number of messages that wait for the repository."""
        return self._access.ask_live(lambda live: live.messages_for(repo), 0)


UNKNOWN_RUNS = "Redis gave no answer: todos that a run executes now are shown as the file has them"


@dataclass(frozen=True, kw_only=True)
class RecordView:
    """A record, with what is shown in addition."""

    of: ClassVar[type]
    """The type of the record."""
    record: Any

    @property
    def more(self) -> Mapping[str, Any]:
        """Return the fields that are shown in addition to those of the record."""
        return {}

    def data(self) -> dict[str, Any]:
        """Return all fields."""
        return {**dict(presentable(self.record)), **self.more}


@dataclass(frozen=True, kw_only=True)
class DependencyView(RecordView):
    of = Dependency
    record: Dependency


@dataclass(frozen=True, kw_only=True)
class LinkedView(RecordView):
    """A record with its blockers and dependents."""

    chains: Chains

    @property
    def more(self) -> Mapping[str, Any]:
        return dict(self.chains)


@dataclass(frozen=True, kw_only=True)
class IssueView(LinkedView):
    of = Issue
    record: Issue


@dataclass(frozen=True, kw_only=True)
class TodoRecordView(LinkedView):
    of = Todo
    record: TodoInView
    plan: Plan | None
    """The plan of the todo, if the file declares it."""
    read_live: Callable[[], LiveTodo | None]
    note: str = ""

    @cached_property
    def live(self) -> LiveTodo | None:
        """Return the state of the todo in the newest run that has it, where Redis answers at once."""
        return self.read_live()

    @property
    def more(self) -> Mapping[str, Any]:
        return {**dict(self.chains), "live": self.live}


@dataclass(frozen=True, kw_only=True)
class PlanRecordView(LinkedView):
    of = Plan
    record: Plan
    todos: tuple[Todo, ...]

    @property
    def more(self) -> Mapping[str, Any]:
        return {"todos": tuple(map(presentable, self.todos)), **dict(self.chains)}


@dataclass(frozen=True, kw_only=True)
class RepoView:
    """The status of a repository."""

    status: RepoStatus
    breaker: Breaker | None
    """Its circuit breaker, if that is open or has failures."""
    note: str = ""

    def data(self) -> dict[str, Any]:
        return {**dict(self.status), "breaker": self.breaker}


@dataclass(frozen=True, kw_only=True)
class EcosystemView:
    """The status of all repositories."""

    status: EcosystemStatus
    breakers: tuple[Breaker, ...]
    """The circuit breakers that are open or have failures."""
    to_land: tuple[ToLand, ...] = ()
    """The change sets that land now, and then those that are ready to land."""
    note: str = ""

    def data(self) -> dict[str, Any]:
        return {**dict(self.status), "breakers": self.breakers, "to_land": self.to_land}


class _Part:
    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access
        self._live = LiveView(access)

    @property
    def _manager(self) -> CoordinationManager:
        return self._access.manager

    def _note(self) -> str:
        """Return the note that the runs of the present view are not known."""
        return "" if self._manager.runs_known else UNKNOWN_RUNS


class Repositories(_Part):
    """`coord.repo`."""

    @operation("repo.list", Effect.READS, tool=False)
    def list(
        self,
        *,
        tag: Annotated[
            tuple[str, ...], Option("Select repositories with this tag.", filters=True, completes="tags")
        ] = (),
        role: Annotated[
            tuple[str, ...], Option("Select repositories with this role.", filters=True, completes="roles")
        ] = (),
    ) -> tuple[Repo, ...]:
        """List the repositories of the file. All filters must match. The numbers of open issues and todos are
        shown, too.
        """
        return self._manager.list_repos(tag or None, role or None)

    @operation("repo.status", Effect.READS, tool="get_repo_status")
    def status(self, repo: Annotated[str | None, REPO_NAME] = None) -> RepoView | EcosystemView:
        """Show the state of a repository, or of everything. It names work in progress, ready and blocked,
        issues, plans and dependencies, and the circuit breakers that are open or have counted failures.

        `repo` need not be declared.
        """
        if repo is None:
            return self.overview()
        status = self._manager.get_repo_status(repo)
        own = (one for one in self._live.breakers() if one.name == f"repo:{repo}")
        return RepoView(status=status, breaker=next(own, None), note=self._note())

    @operation("ecosystem.status", Effect.READS, tool="get_ecosystem_status", for_agents="Start here.")
    def overview(self) -> EcosystemView:
        """Summarise all repositories: work that is overdue, ready or blocked, and the worst blockers."""
        return EcosystemView(
            status=self._manager.get_ecosystem_status(),
            breakers=self._live.breakers(),
            to_land=self._to_land(),
            note=self._note(),
        )

    def _to_land(self) -> tuple[ToLand, ...]:
        """Return the change sets to land, where Redis answers at once."""
        if not self._live.change_sets():
            return ()
        from coordination.changes.view import ChangeReader

        try:
            with self._access.reached() as connection:
                return ChangeReader(connection, self._access.document.ecosystem).to_land()
        except Unreachable:
            return ()

    @operation("repo.blocking", Effect.READS, tool="get_blocking_issues")
    def blocking(self, repo: RepoName) -> tuple[BlockingIssue, ...]:
        """List the open issues that block work in a repository, directly or through others. Each is listed
        with the work that it blocks.
        """
        return self._manager.get_blocking_issues(repo)


class Dependencies(_Part):
    """`coord.dep`."""

    @operation("dep.list", Effect.READS, tool="list_dependencies")
    def list(
        self,
        *,
        consumer: Annotated[
            tuple[str, ...],
            Option("Select dependencies of this consumer.", filters=True, completes="repo_names"),
        ] = (),
        provider: Annotated[
            tuple[str, ...],
            Option("Select dependencies on this provider.", filters=True, completes="repo_names"),
        ] = (),
        type: Annotated[tuple[DependencyType, ...], Option("Select any of these types.", filters=True)] = (),
        status: Annotated[
            tuple[DependencyStatus, ...], Option("Select any of these statuses.", filters=True)
        ] = (),
    ) -> tuple[Dependency, ...]:
        """List the dependencies between repositories. All filters must match."""
        return self._manager.list_dependencies(
            consumer or None, provider or None, type or None, status or None
        )

    @operation("dep.show", Effect.READS, tool=False)
    def show(self, dependency: DependencyId) -> DependencyView:
        """Show a dependency between repositories, and its check."""
        return DependencyView(record=self._manager.get_dependency(dependency))

    @operation("dep.create", Effect.ADDS, right="edit", tool=False)
    def create(self, fields: NewDependency) -> Edited:
        """Create a dependency of one repository on another. Without an id it gets the next free one."""
        return self._manager.create_dependency(**fields.given())

    @operation("dep.update", Effect.CHANGES, right="edit", tool=False)
    def update(
        self,
        dependency: DependencyId,
        fields: DependencyFields | None = None,
        *,
        clear: Clear = (),
        added: Lists = NO_ITEMS,
        removed: Lists = NO_ITEMS,
    ) -> Edited:
        """Change fields of a dependency."""
        from coordination.api.fields import DependencyFields, changes_of

        return self._manager.update_dependency(
            dependency, changes_of(fields or DependencyFields(), clear, added, removed)
        )

    @operation("dep.delete", Effect.CHANGES, right="edit", tool=False)
    def delete(self, dependency: DependencyId, *, cascade: Cascade = False) -> Removed:
        """Delete a dependency."""
        return self._manager.delete_dependency(dependency, cascade)

    @operation("dep.check", Effect.CHECKS, right="edit", tool="check_dependencies")
    def check(
        self,
        consumer: Annotated[
            tuple[str, ...], Option("Select dependencies of these consumers.", completes="repo_names")
        ] = (),
        *,
        ids: Annotated[
            tuple[str, ...],
            Option(
                "Select these dependencies.",
                flag="--dep",
                filters=True,
                completes="dependency_ids",
            ),
        ] = (),
        type: Annotated[tuple[DependencyType, ...], Option("Select any of these types.", filters=True)] = (),
        jobs: Annotated[
            int | None, Option("Run at most N checks at once (default: 8).", metavar="N", least=1)
        ] = None,
        write: Annotated[
            bool, Option("Write changed statuses into the file (default).", flag="--write/--no-write")
        ] = True,
    ) -> DependencyReport:
        """Check the dependencies between repositories. Commands are executed, addresses requested, versions
        compared. Changed statuses are written into the file; a dependency that could not be checked keeps its
        status.
        """
        return self._manager.check_dependencies(
            consumer or None, ids=ids or None, type=type or None, jobs=jobs, write=write
        )


class IssueRecords(_Part):
    """`coord.issue`."""

    @operation("issue.list", Effect.READS, tool="list_issues")
    def list(
        self,
        *,
        status: Annotated[
            tuple[IssueStatus, ...], Option("Select any of these statuses.", filters=True)
        ] = (),
        priority: OfPriority = (),
        repo: OfRepo = (),
        assignee: OfAssignee = (),
        label: OfLabel = (),
    ) -> tuple[Issue, ...]:
        """List the issues, most urgent first, then by date. All filters must match."""
        return self._manager.list_issues(
            status or None, priority or None, repo or None, assignee or None, label or None
        )

    @operation("issue.show", Effect.READS, tool="get_issue")
    def show(self, issue: IssueId) -> IssueView:
        """Show an issue with its blockers and dependents.

        Raises NotFound.
        """
        record = self._manager.get_issue(issue)
        return IssueView(record=record, chains=self._manager.chains_of(issue))

    @operation("issue.create", Effect.ADDS, right="edit", tool="create_issue")
    def create(self, fields: NewIssue) -> Edited:
        """Create an issue. Without an id it gets the next free one."""
        return self._manager.create_issue(**fields.given())

    @operation("issue.update", Effect.CHANGES, right="edit", tool="update_issue")
    def update(
        self,
        issue: IssueId,
        fields: IssueFields | None = None,
        *,
        clear: Clear = (),
        added: Lists = NO_ITEMS,
        removed: Lists = NO_ITEMS,
    ) -> Edited:
        """Change fields of an issue. A list replaces the present list.

        `added` and `removed`: items of lists, by field.
        """
        from coordination.api.fields import IssueFields, changes_of

        return self._manager.update_issue(issue, changes_of(fields or IssueFields(), clear, added, removed))

    @operation("issue.close", Effect.ADDS, right="edit", tool="close_issue")
    def close(self, issue: IssueId) -> Edited:
        """Close an issue. The answer names the records that became ready.

        Raises Conflict if it is closed already.
        """
        return self._manager.close_issue(issue)

    @operation("issue.delete", Effect.CHANGES, right="edit", tool=False)
    def delete(self, issue: IssueId, *, cascade: Cascade = False) -> Removed:
        """Delete an issue. Refused while other records name it.

        Raises Conflict if others name it.
        """
        return self._manager.delete_issue(issue, cascade)


class TodoRecords(_Part):
    """`coord.todo`."""

    @operation("todo.list", Effect.READS, tool="list_todos")
    def list(
        self,
        *,
        status: Annotated[tuple[TodoStatus, ...], Option("Select any of these statuses.", filters=True)] = (),
        priority: OfPriority = (),
        repo: OfRepo = (),
        plan: Annotated[
            tuple[str, ...], Option("Select todos of this plan.", filters=True, completes="plan_ids")
        ] = (),
        assignee: OfAssignee = (),
        label: OfLabel = (),
    ) -> Listing[TodoInView]:
        """List the todos, most urgent first. All filters must match. A todo that a run executes is
        in_progress, with its run, its state there and its worker.
        """
        todos = self._manager.list_todos(
            status or None, repo or None, assignee or None, plan or None, priority or None, label or None
        )
        executed = not status or not {TodoStatus.PENDING, TodoStatus.IN_PROGRESS}.isdisjoint(status)
        return Listing.of(map(as_view, todos), self._note() if executed else "")

    @operation("todo.show", Effect.READS, tool="get_todo")
    def show(self, todo: TodoId) -> TodoRecordView:
        """Show a todo with its blockers, its dependents and its state in a run.

        Raises NotFound.
        """
        record = as_view(self._manager.get_todo(todo))
        plans = self._manager.ecosystem.coordination.plans
        return TodoRecordView(
            record=record,
            chains=self._manager.chains_of(todo),
            plan=next((one for one in plans if one.id == record.plan), None),
            read_live=partial(self._live.todo, todo),
            note=self._note() if record.status in OPEN else "",
        )

    @operation("todo.create", Effect.ADDS, right="edit", tool="create_todo")
    def create(self, fields: NewTodo) -> Edited:
        """Create a todo. Without an id it gets the next free one. Without an action, an agent executes it
        with its text as prompt.
        """
        return self._manager.create_todo(**fields.given())

    @operation("todo.update", Effect.CHANGES, right="edit", tool=False)
    def update(
        self,
        todo: TodoId,
        fields: TodoFields | None = None,
        *,
        clear: Clear = (),
        added: Lists = NO_ITEMS,
        removed: Lists = NO_ITEMS,
    ) -> Edited:
        """Change fields of a todo. A list replaces the present list.

        `added` and `removed`: items of lists, by field.
        """
        from coordination.api.fields import TodoFields, changes_of

        return self._manager.update_todo(todo, changes_of(fields or TodoFields(), clear, added, removed))

    @operation("todo.complete", Effect.ADDS, right="edit", tool="complete_todo")
    def complete(
        self,
        todo: TodoId,
        *,
        actual_hours: Annotated[
            float | None, Option(texts.HOURS, flag="--hours", metavar="HOURS", reads="parse_hours", least=0)
        ] = None,
        run: InRun = None,
    ) -> Completed:
        """Complete a todo: in the run that waits for it, else in the file. The answer names the records that
        became ready.

        Raises Conflict while a run executes it, or where it is completed already; UsageError for hours with a
        run. Starts no server to ask.
        """
        if run is not None and actual_hours is not None:
            raise UsageError(
                "a run and hours exclude each other", "leave the run out: hours are in the file only"
            )
        if run is not None or not self._access.has_file:
            return complete_in_run(self._access, todo, run)
        return complete(self._access, todo, actual_hours)

    @operation("todo.delete", Effect.CHANGES, right="edit", tool=False)
    def delete(self, todo: TodoId, *, cascade: Cascade = False, change_set: OfUnlanded = None) -> Removed:
        """Delete a todo. Refused while other records name it, or while it has a change set of its own with
        unlanded work, unless it is said whether to discard or to keep that.

        Raises Conflict.
        """
        return self._manager.delete_todo(todo, cascade, change_set=change_set)


class PlanRecords(_Part):
    """`coord.plan`."""

    @operation("plan.list", Effect.READS, tool="list_plans", for_agents="coord_list_todos lists their todos.")
    def list(
        self,
        *,
        status: Annotated[tuple[PlanStatus, ...], Option("Select any of these statuses.", filters=True)] = (),
        repo: OfRepo = (),
    ) -> tuple[Plan, ...]:
        """List the plans, by date. All filters must match."""
        return self._manager.list_plans(status or None, repo or None)

    @operation("plan.show", Effect.READS, tool=False)
    def show(self, plan: PlanId) -> PlanRecordView:
        """Show a plan with its milestones, todos, blockers and dependents.

        Raises NotFound.
        """
        manager = self._manager
        return PlanRecordView(
            record=manager.get_plan(plan), todos=manager.plan_todos(plan), chains=manager.chains_of(plan)
        )

    @operation("plan.create", Effect.ADDS, right="edit", tool=False)
    def create(self, fields: NewPlan) -> Edited:
        """Create a plan. Without an id it gets the next free one."""
        return self._manager.create_plan(**fields.given())

    @operation("plan.update", Effect.CHANGES, right="edit", tool=False)
    def update(
        self,
        plan: PlanId,
        fields: PlanFields | None = None,
        *,
        clear: Clear = (),
        added: Lists = NO_ITEMS,
        removed: Lists = NO_ITEMS,
        **milestones: Any,
    ) -> Edited:
        """Change fields and milestones of a plan. An incomplete plan or milestone is marked as
        completed only if that is forced with a reason, which the history keeps.

        `milestones`: as in `CoordinationManager.update_plan`.
        """
        from coordination.api.fields import PlanFields, changes_of

        return self._manager.update_plan(
            plan, changes_of(fields or PlanFields(), clear, added, removed), **milestones
        )

    @operation(
        "plan.complete",
        Effect.CHECKS,
        right="edit",
        command=False,
        for_agents="Refused over what coord_plan_validate with run_checks names as missing.",
    )
    def complete(
        self,
        plan: PlanId,
        *,
        milestones: Annotated[
            tuple[str, ...], Option("Ids of the plan's milestones to complete (default: the plan itself).")
        ] = (),
        force: Annotated[bool, Option(texts.FORCE, for_agents="Only if a person has decided that.")] = False,
        reason: Annotated[str, Option(texts.FORCE_REASON)] = "",
    ) -> Edited:
        """Mark a plan, or milestones of it, as completed; the checks of their criteria are run.

        Raises Incomplete.
        """
        changes = {} if milestones else {"status": PlanStatus.COMPLETED}
        return self._manager.update_plan(
            plan, changes, complete_milestones=milestones, force=force, reason=reason
        )

    @operation("plan.validate", Effect.CHECKS, right="edit")
    def validate(
        self,
        plan: PlanId,
        *,
        run_checks: Annotated[bool, Option("Run the commands of its criteria, 60 s each at most.")] = False,
        on_check: Callable[[Criterion], None] | None = None,
    ) -> PlanCompletion:
        """Check whether a plan is complete. The answer lists what is missing: todos, milestones, criteria,
        deliverables and quality checks.

        `on_check` is called with each criterion before its check.

        Raises Unreachable where the plan's `qa` counts and Redis does not answer.
        """
        return self._manager.validate_plan_completion(plan, run_checks=run_checks, on_check=on_check)

    @operation("plan.delete", Effect.CHANGES, right="edit", tool=False)
    def delete(self, plan: PlanId, *, cascade: Cascade = False, change_set: OfUnlanded = None) -> Removed:
        """Delete a plan. Refused while it has todos, or other records name it; and while its change set has
        unlanded work, unless it is said whether to discard or to keep that.

        Raises Conflict.
        """
        return self._manager.delete_plan(plan, cascade, change_set=change_set)
