"""`CoordinationManager`: all operations on the records of one file, for the commands and the agents' tools.

    manager = CoordinationManager.open("ecosystem.yaml")
    todo = manager.create_todo(task="Raise the timeout", repo="api", plan="PLAN-001").record
    manager.complete_todo(todo.id, actual_hours=0.5)

Each change is one edit of the file, applied completely or not at all (`ecosystem/editing.py`).

Checks of dependencies write only statuses that differ from the file. Where the provider is on another
machine, or declares nothing to check, the status stays as that machine or a person has set it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from coordination.ecosystem.document import Document, find, load
from coordination.errors import PlanRefused
from coordination.files import why_closed, why_no_folder
from coordination.models import (
    Dependency,
    DependencyStatus,
    DependencyType,
    Ecosystem,
    Issue,
    IssueStatus,
    Level,
    Milestone,
    Plan,
    PlanStatus,
    Repo,
    Todo,
    TodoStatus,
    UnlandedWork,
)
from coordination.planner.selection import ALL, Selectors
from coordination.tracker import milestones, mutations, queries, status
from coordination.tracker.completion import (
    Checks,
    CompletionGuard,
    Force,
    OnCheck,
    Recorded,
    Unjudged,
    check_completion,
    folders_of,
    read_force,
    wants_checks,
)
from coordination.tracker.kinds import DEPENDENCY, ISSUE, KINDS, PLAN, TODO, Kind, R, unknown
from coordination.tracker.queries import Executing, Joined, Wanted, join
from coordination.tracker.records import (
    BlockingIssue,
    DeletePreview,
    EcosystemStatus,
    Edited,
    GeneratedPlan,
    PlanCompletion,
    ProposedPlan,
    Removed,
    RepoStatus,
)
from coordination.tracker.relations import Chains, Relations, chains_of
from coordination.tracker.transaction import Transaction, fields_of

if TYPE_CHECKING:
    from coordination.dependencies.records import DependencyReport, Outcome
    from coordination.ecosystem.editing import Edit
    from coordination.models import Template
    from coordination.planner.proposal import Proposal

Result = TypeVar("Result")
Fields = Mapping[str, Any]
"""Fields of a record by their names in the file."""
Changes = Fields | Callable[[R], Fields]
"""Changes to a record: None removes a field, a list replaces the list.

A change that depends on the present value, such as one more label, is a function of the record. It is called
when the file is written, so that concurrent changes are not lost.
"""


class CoordinationManager:
    """Read and change the records of one file.

    A filter takes one value or several alternatives; filters intersect. An unknown id, name or value is
    refused (NotFound, UsageError) with a suggestion.

    Operations raise NotFound and UsageError for invalid input, Conflict for a forbidden status transition
    (`kinds.py`), EditConflict and CoordinationError if the file cannot be written; the file is then
    unchanged.
    """

    on_checked: Callable[[Sequence[Outcome]], object] | None = None
    """Called with the outcomes of each check of dependencies, before they are written."""
    may_edit: Callable[[Iterable[Mapping[str, Any]]], object] | None = None
    """Called with the events of each edit before it is written; raises NotAllowed to refuse it."""
    unlanded: Callable[[Collection[str]], Collection[str]] | None = None
    """Returns those of these plans and todos whose change sets have work that has not landed."""
    discard: Callable[[str], object] | None = None
    """Discards a change set."""
    used_ids: Callable[[], Collection[str]] = frozenset
    """Returns the ids that records have or had, which no new record gets."""
    may_execute: Callable[[Collection[str]], object] | None = None
    """Called before commands of the file are executed, with the repositories of their record; raises
    NotAllowed.
    """

    def __init__(
        self,
        document: Document | str | Path | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        executing: Callable[[], Executing | None] = dict,
        recorded: Recorded = lambda plan: None,
    ) -> None:
        """`document`: a file as it was read, or its path; a folder or None is searched as the commands do.
        `executing` returns the todos of live runs, None if they are not known. It is called when a view
        needs it, once until `look_again`. `recorded` returns the newest results of a plan's quality checks.
        """
        if not isinstance(document, Document):
            document = load(find(Path.cwd(), None if document is None else Path(document)))
        self.document = document
        """The file as it was read, or as the latest operation left it."""
        self._now = now
        self._executing = executing
        self._recorded = recorded
        self._view: tuple[Document, Joined] | None = None
        """A file, and its records as views show them."""

    @classmethod
    def open(cls, ecosystem: str | Path | None = None) -> Self:
        """Open a file; a folder or None is searched as the commands do. Raises NotFound and InvalidFile."""
        return cls(ecosystem)

    @property
    def ecosystem(self) -> Ecosystem:
        """The records of the file; todos that a run executes are in progress."""
        return self._joined.ecosystem

    def look_again(self) -> None:
        """Ask again for the todos of live runs when a view next needs them."""
        self._view = None

    @property
    def runs_known(self) -> bool:
        """Return False if Redis did not answer: then todos that runs execute are shown as in the file."""
        return self._joined.known

    @property
    def _joined(self) -> Joined:
        view, document = self._view, self.document  # another thread may look again meanwhile
        if view is None or view[0] is not document:
            view = self._view = (document, join(document.ecosystem, self._executing()))
        return view[1]

    # Repositories

    def list_repos(self, tag: Wanted = None, role: Wanted = None) -> tuple[Repo, ...]:
        """List the repositories of the file. All filters must match."""
        repos = self.ecosystem.repos
        wanted = {
            "tags": queries.known_names(
                tag, lambda: (t for r in repos for t in r.tags), "tag of a repo", "repo list"
            ),
            "role": queries.known_names(
                role, lambda: (r.role for r in repos if r.role), "role of a repo", "repo list"
            ),
        }
        return tuple(queries.matching(repos, wanted))

    def get_repo(self, name: str) -> Repo:
        for repo in self.ecosystem.repos:
            if repo.name == name:
                return repo
        raise unknown("repo", name, [repo.name for repo in self.ecosystem.repos], "repo list")

    def check_paths(self, names: Iterable[str]) -> None:
        """Raise PlanRefused if a repository is not on this machine, because the local worker would wait for
        it for ever.
        """
        places = ((name, self.document.repo_path(self.get_repo(name))) for name in names)
        missing = [
            f"{name}: {(path and why_closed(path)) or path or 'no path is declared'}"
            for name, path in places
            if path is None or why_no_folder(path)
        ]
        if missing:
            raise PlanRefused(
                "not found on this machine: " + ", ".join(missing),
                "clone them, or correct `path` of the repositories in ecosystem.yaml",
            )

    # Issues

    def list_issues(
        self,
        status: Wanted = None,
        priority: Wanted = None,
        repo: Wanted = None,
        assignee: Wanted = None,
        label: Wanted = None,
    ) -> tuple[Issue, ...]:
        """List the issues, most urgent first, then by date. All filters must match."""
        wanted = {
            "status": queries.enum_values(status, IssueStatus, "status"),
            "priority": queries.enum_values(priority, Level, "priority"),
            "repos": self._repos(repo),
            "assignee": queries.as_set(assignee),
            "labels": self._labels(label, ISSUE.listed_by),
        }
        return queries.sorted_issues(queries.matching(ISSUE.all(self.ecosystem), wanted))

    def get_issue(self, issue_id: str) -> Issue:
        return ISSUE.get(self.ecosystem, issue_id)

    def create_issue(self, record: Issue | Fields = {}, /, **fields: Any) -> Edited:  # noqa: B006
        """Create an issue. Without an id it gets the next free one.

        `record` and `fields` are its fields; `title` is required.
        """
        return self._create(ISSUE, {**fields_of(record), **fields})

    def update_issue(self, issue_id: str, changes: Changes[Issue]) -> Edited:
        """Change fields of an issue. A list replaces the present list."""
        return self._update(ISSUE, issue_id, changes)

    def write_issues(
        self, changes: Mapping[str, Changes[Issue]], new: Sequence[Fields] = ()
    ) -> tuple[Edited, ...]:
        """Update issues and create others, in one edit. Issues that the file no longer has are left out."""

        def operation(transaction: Transaction) -> tuple[Edited, ...]:
            found = [(transaction.find(ISSUE, name), fields) for name, fields in changes.items()]
            updated = [
                mutations.update_record(transaction, ISSUE, issue, issue, fields)
                for issue, fields in found
                if issue
            ]
            return (*updated, *(mutations.create_records(transaction, ISSUE, new) if new else ()))

        return self._edit(operation)

    def close_issue(self, issue_id: str) -> Edited:
        """Close an issue. The answer names the records that became ready.

        Raises Conflict if it is closed already.
        """
        return self._finish(ISSUE, issue_id, {"status": IssueStatus.CLOSED})

    def delete_issue(self, issue_id: str, cascade: bool = False) -> Removed:
        """Delete an issue. Refused while other records name it.

        `cascade` removes those references.

        Raises Conflict if others name it.
        """
        return self._delete(ISSUE, issue_id, cascade)

    # Todos

    def list_todos(
        self,
        status: Wanted = None,
        repo: Wanted = None,
        assignee: Wanted = None,
        plan: Wanted = None,
        priority: Wanted = None,
        label: Wanted = None,
    ) -> tuple[Todo, ...]:
        """List the todos, most urgent first. All filters must match. A todo that a run executes is
        in_progress, with its run, its state there and its worker.
        """
        wanted = {
            "repo": self._repos(repo),
            "status": queries.enum_values(status, TodoStatus, "status"),
            "assignee": queries.as_set(assignee),
            "priority": queries.enum_values(priority, Level, "priority"),
            "labels": self._labels(label, TODO.listed_by),
        }
        todos = TODO.all(self.ecosystem)
        if plan is not None:
            owned = {
                todo.id: todo for name in sorted(queries.as_set(plan) or ()) for todo in self.plan_todos(name)
            }
            todos = tuple(owned.values())
        return queries.sorted_todos(queries.matching(todos, wanted))

    def get_todo(self, todo_id: str) -> Todo:
        return TODO.get(self.ecosystem, todo_id)

    def create_todo(self, record: Todo | Fields = {}, /, **fields: Any) -> Edited:  # noqa: B006
        """Create a todo. Without an id it gets the next free one. Without an action, an agent executes it
        with its text as prompt.

        `record` and `fields` are its fields; `task` and `repo` are required.
        """
        return self._create(TODO, {**fields_of(record), **fields})

    def update_todo(self, todo_id: str, changes: Changes[Todo]) -> Edited:
        """Change fields of a todo. A list replaces the present list."""
        return self._update(TODO, todo_id, changes)

    def complete_todo(self, todo_id: str, actual_hours: float | None = None) -> Edited:
        """Complete a todo. Raises Conflict if it is completed or cancelled already."""
        hours = {} if actual_hours is None else {"actual_hours": actual_hours}
        return self._finish(TODO, todo_id, {"status": TodoStatus.COMPLETED, **hours})

    def reopen_todos(self, names: Collection[str]) -> tuple[str, ...]:
        """Set the completed ones of these todos to pending, in one edit; return their ids."""

        def operation(transaction: Transaction) -> tuple[str, ...]:
            todos = transaction.ecosystem.coordination.todos
            completed = [todo for todo in todos if todo.id in names and todo.status is TodoStatus.COMPLETED]
            for todo in completed:
                changes = {"status": TodoStatus.PENDING, "actual_hours": None}
                mutations.update_record(transaction, TODO, todo, todo, changes)
            return tuple(todo.id for todo in completed)

        return self._edit(operation)

    def delete_todo(
        self, todo_id: str, cascade: bool = False, *, change_set: UnlandedWork | None = None
    ) -> Removed:
        """Delete a todo. Refused while other records name it, or while it has a change set of its own with
        unlanded work, unless `change_set` says whether to discard or to keep that.

        `cascade` removes those references.

        Raises Conflict.
        """
        return self._delete(TODO, todo_id, cascade, change_set)

    # Plans and their milestones

    def list_plans(self, status: Wanted = None, repo: Wanted = None) -> tuple[Plan, ...]:
        """List the plans, by date. All filters must match.

        `repo` matches plans that name it and plans with a todo in it.
        """
        wanted = {"status": queries.enum_values(status, PlanStatus, "status")}
        plans = queries.matching(PLAN.all(self.ecosystem), wanted)
        repos = self._repos(repo)
        if repos is not None:
            named = {todo.plan for todo in TODO.all(self.ecosystem) if todo.repo in repos}
            plans = [plan for plan in plans if not repos.isdisjoint(plan.repos) or plan.id in named]
        return queries.sorted_plans(plans)

    def get_plan(self, plan_id: str) -> Plan:
        return PLAN.get(self.ecosystem, plan_id)

    def plan_todos(self, plan_id: str) -> tuple[Todo, ...]:
        """Return the todos that belong to the plan, in the file's order."""
        return self.ecosystem.todos_of(self.get_plan(plan_id))

    def validate_plan_completion(
        self, plan_id: str, *, run_checks: bool = False, on_check: OnCheck | None = None
    ) -> PlanCompletion:
        """Check whether a plan is complete. The answer lists what is missing: todos, milestones, criteria,
        deliverables and quality checks.

        `run_checks` runs the commands of its criteria, at most 60 s each.

        Raises Unreachable where the plan's `qa` counts and Redis does not answer.
        """
        plan = self.get_plan(plan_id)
        if run_checks:
            self._check_execution(plan.repos)
        checks = Checks(
            folders=folders_of(self.document, plan),
            run=run_checks,
            on_check=on_check or (lambda criterion: None),
            recorded=self._recorded(plan) if wants_checks(plan) else None,
        )
        return check_completion(self.ecosystem, plan, checks, self._now().date())

    def create_plan(self, record: Plan | Fields = {}, /, **fields: Any) -> Edited:  # noqa: B006
        """Create a plan. Without an id it gets the next free one.

        `record` and `fields` are its fields; `title` is required.
        """
        return self._create(PLAN, {**fields_of(record), **fields})

    def update_plan(
        self,
        plan_id: str,
        changes: Changes[Plan] = {},  # noqa: B006 - never modified
        *,
        update_milestones: Mapping[str, Fields | Callable[[Milestone], Fields]] = {},
        complete_milestones: Sequence[str] = (),
        delete_milestones: Sequence[str] = (),
        add_milestones: Sequence[Fields] = (),
        force: bool = False,
        reason: str = "",
        on_check: OnCheck | None = None,
    ) -> Edited:
        """Change fields and milestones of a plan. An incomplete plan or milestone is marked as
        completed only if that is forced with a reason, which the history keeps.

        `update_milestones`, `complete_milestones`, `delete_milestones` and `add_milestones` are applied in
        this order, then `changes`, all in one edit. Checks of criteria run to complete something, after
        `on_check` was called with each; `force` completes it without them.

        Raises Incomplete; Conflict for a milestone that others name and that would be deleted.
        """
        guard = self._guard(read_force(force, reason), on_check)

        def operation(transaction: Transaction) -> Edited:
            plan = before = transaction.get(PLAN, plan_id)
            for name, changed in update_milestones.items():
                plan = milestones.update(transaction, plan, name, changed)
            for name in complete_milestones:
                plan = milestones.complete(transaction, plan, name)
            for name in delete_milestones:
                plan = milestones.remove(transaction, plan, name)
            for fields in add_milestones:
                plan = milestones.add(transaction, plan, fields)
            return mutations.update_record(transaction, PLAN, before, plan, changes)

        edited = self._edit(operation, guard)
        notes = tuple(f"completed although: {finding}" for finding in guard.overridden)
        return edited.model_copy(update={"notes": (*edited.notes, *notes)}) if notes else edited

    def add_milestone(self, plan_id: str, **fields: Any) -> Edited:
        """Add a milestone to a plan; needs `name`. Without an `id` it gets the plan's next free one. Returns
        the plan.
        """
        return self.update_plan(plan_id, add_milestones=[fields])

    def complete_milestone(
        self, plan_id: str, milestone_id: str, *, force: bool = False, reason: str = ""
    ) -> Edited:
        """Complete a milestone. Returns the plan. Raises Conflict if it is completed or cancelled already;
        Incomplete, see `update_plan`.
        """
        return self.update_plan(plan_id, complete_milestones=[milestone_id], force=force, reason=reason)

    def delete_plan(
        self, plan_id: str, cascade: bool = False, *, change_set: UnlandedWork | None = None
    ) -> Removed:
        """Delete a plan. Refused while it has todos, or other records name it; and while its change set has
        unlanded work, unless `change_set` says whether to discard or to keep that.

        `cascade` deletes its todos and removes other references.

        Raises Conflict.
        """
        return self._delete(PLAN, plan_id, cascade, change_set)

    # Dependencies

    def list_dependencies(
        self, consumer: Wanted = None, provider: Wanted = None, type: Wanted = None, status: Wanted = None
    ) -> tuple[Dependency, ...]:
        """List the dependencies between repositories. All filters must match."""
        wanted = {
            "consumer": self._repos(consumer),
            "provider": self._repos(provider),
            "type": queries.enum_values(type, DependencyType, "type"),
            "status": queries.enum_values(status, DependencyStatus, "status"),
        }
        return queries.sorted_dependencies(queries.matching(DEPENDENCY.all(self.ecosystem), wanted))

    def get_dependency(self, dependency_id: str) -> Dependency:
        """Show a dependency between repositories, and its check."""
        return DEPENDENCY.get(self.ecosystem, dependency_id)

    def create_dependency(self, record: Dependency | Fields = {}, /, **fields: Any) -> Edited:  # noqa: B006
        """Create a dependency of one repository on another. Without an id it gets the next free one.

        `record` and `fields` are its fields; `consumer` and `provider` are required.
        """
        return self._create(DEPENDENCY, {**fields_of(record), **fields})

    def update_dependency(self, dependency_id: str, changes: Changes[Dependency]) -> Edited:
        """Change fields of a dependency."""
        return self._update(DEPENDENCY, dependency_id, changes)

    def delete_dependency(self, dependency_id: str, cascade: bool = False) -> Removed:
        """Delete a dependency."""
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
        """Check the dependencies between repositories. Commands are executed, addresses requested, versions
        compared. Changed statuses are written into the file; a dependency that could not be checked keeps its
        status.

        `jobs` limits the checks at once (default: 8); without `write` the file stays as it is. If the call
        ends early, for example by Ctrl-C, it terminates its processes and writes nothing.
        """
        wanted = self.list_dependencies(consumer=consumer, type=type)
        if named := queries.as_set(ids):
            wanted = tuple(
                d for d in map(self.get_dependency, sorted(named, key=queries.natural)) if d in wanted
            )
        for repos in {frozenset((one.consumer, one.provider)) for one in wanted}:
            self._check_execution(repos)
        report = mutations.run_checks(self.document, wanted, jobs, on_outcome)
        if self.on_checked is not None:
            self.on_checked(report.outcomes)
        return self.write_outcomes(report) if write else report

    def write_outcomes(self, report: DependencyReport) -> DependencyReport:
        """Write the changed statuses of a report made with `write` off, for callers that show the report even
        if writing fails.
        """
        before = self.document
        if not (changed := mutations.changed_outcomes(before, report.outcomes)):
            return report
        return report.model_copy(
            update={
                "written": self._edit(
                    lambda transaction: mutations.record_outcomes(transaction, before, changed)
                )
            }
        )

    # Overviews

    def chains_of(self, name: str) -> Chains:
        """Return the blockers and dependents of an issue, plan or todo, each with the chain behind it."""
        relations = Relations(self.ecosystem)
        if name not in relations.items:
            raise unknown("issue, plan or todo", name, relations.items, "todo list")
        return chains_of(relations, name)

    def get_blocking_issues(self, repo: str) -> tuple[BlockingIssue, ...]:
        """List the open issues that block work in a repository, directly or through others. Each is listed
        with the work that it blocks.
        """
        self._repos(repo)
        return status.blocking_issues(self.ecosystem, repo)

    def get_repo_status(self, repo: str) -> RepoStatus:
        """Summarise a repository: its issues, todos, plans, dependencies and blockers.

        `repo` need not be declared.
        """
        self._repos(repo)
        declared = next((known for known in self.ecosystem.repos if known.name == repo), Repo(name=repo))
        return status.repo_status(self.document, self._joined, declared)

    def get_ecosystem_status(self) -> EcosystemStatus:
        """Summarise all repositories: work that is overdue, ready or blocked, and the worst blockers."""
        return status.ecosystem_status(self.document, self._joined, self._now().date())

    def what_goes(self, name: str) -> DeletePreview:
        """Return what a deletion with `cascade` would remove."""
        return mutations.preview_deletion(self.ecosystem, name)

    # Many at once

    def create_all(self, noun: str, records: Iterable[Fields]) -> tuple[Edited, ...]:
        """Create records in one edit, all or none; a later one may name an earlier one.

        `noun` is issue, todo, plan or dependency.
        """
        kind: Kind[Any] = next(kind for kind in KINDS if kind.noun == noun)
        new_records = list(records)
        return self._edit(lambda transaction: mutations.create_records(transaction, kind, new_records))

    def generate_plan(
        self,
        template: Template,
        values: Mapping[str, object],
        wanted: Selectors = ALL,
        *,
        all_repos: bool = False,
        fields: Fields = {},  # noqa: B006 - never modified
        write: bool = True,
    ) -> GeneratedPlan:
        """Create a plan and its todos from a template, for the selected repositories, in one edit. `fields`
        replace those of the template's plan; unless `write`, return what would be created.

        Raises UsageError for wrong values; NotFound where no repository matches; PlanRefused for a circle of
        dependencies; Conflict where an open plan has the title.
        """
        from coordination.tracker import templates

        parameters = templates.read_values(template, values)

        def operation(transaction: Transaction) -> GeneratedPlan:
            ecosystem = transaction.before
            repos = wanted.select_repos(ecosystem, everywhere=all_repos)
            plan = {**templates.plan_fields(template, parameters, repos), **fields}
            templates.refuse_same_title(ecosystem, plan["title"])
            (created,) = mutations.create_records(transaction, PLAN, [plan])
            name = created.record.id
            todos = templates.todo_fields(template, parameters, name, repos, ecosystem)
            mutations.create_records(transaction, TODO, todos)
            return GeneratedPlan(
                plan=transaction.get(PLAN, name),
                todos=tuple(transaction.get(TODO, fields["id"]) for fields in todos),
                written=write,
                unchecked=templates.without_check(template, repos),
            )

        return self._edit(operation) if write else self._preview(operation)

    def create_proposed(
        self, proposal: Proposal, wanted: Selectors = ALL, *, all_repos: bool = False, write: bool = True
    ) -> ProposedPlan:
        """Create a plan that an agent proposes, and its todos, in one edit. `wanted`: the repositories that
        it may name. Unless `write`, return what would be created, with the difference of the file.

        Raises UsageError and NotFound for the selection; PlanRefused for a proposal that does not fit the
        file, or that no sweep could execute; Conflict where an open plan has the title.
        """
        from coordination.tracker import proposals

        def operation(transaction: Transaction) -> ProposedPlan:
            repos = wanted.select_repos(transaction.before, everywhere=all_repos)
            return proposals.create(transaction, proposal, repos, written=write)

        if write:
            return self._edit(operation)
        from coordination.ecosystem.editing import Edit, revised

        proposed = Edit(self.document)
        made = operation(Transaction(proposed, self._now(), self.used_ids))
        diff = proposals.difference(self.document, revised(self.document, proposed.changes))
        return made.model_copy(update={"diff": diff})

    # The history keeps every edit, so the names of the former manager with a memory are other names of these.
    create_issue_with_memory = create_issue
    update_issue_with_memory = update_issue
    close_issue_with_memory = close_issue
    create_todo_with_memory = create_todo
    complete_todo_with_memory = complete_todo
    check_dependencies_with_memory = check_dependencies

    # Implementation

    def _repos(self, wanted: Wanted) -> frozenset[str] | None:
        return queries.known_names(wanted, lambda: queries.repos_in_use(self.ecosystem), "repo", "repo list")

    def _labels(self, wanted: Wanted, listed_by: str) -> frozenset[str] | None:
        return queries.known_names(wanted, lambda: queries.labels(self.ecosystem), "label", listed_by)

    def _check_execution(self, repos: Collection[str]) -> None:
        """Raise NotAllowed unless the user may let this machine execute commands of such a record."""
        if self.may_execute is not None:
            self.may_execute(repos)

    def _create(self, kind: Kind[R], fields: Fields) -> Edited:
        return self._edit(lambda transaction: mutations.create_records(transaction, kind, [fields])[0])

    def _update(self, kind: Kind[R], name: str, changes: Changes[R]) -> Edited:
        def operation(transaction: Transaction) -> Edited:
            record = transaction.get(kind, name)
            return mutations.update_record(transaction, kind, record, record, changes)

        return self._edit(operation)

    def _finish(self, kind: Kind[R], name: str, changes: Fields) -> Edited:
        return self._edit(
            lambda transaction: mutations.finish_record(
                transaction, kind, transaction.get(kind, name), changes
            )
        )

    def unlanded_with(self, name: str) -> tuple[str, ...]:
        """Return the ids of the change sets with unlanded work whose plan or todo a deletion removes."""
        if self.unlanded is None:
            return ()
        return tuple(sorted(self.unlanded((name, *self.what_goes(name).deleted))))

    def _delete(
        self, kind: Kind[R], name: str, cascade: bool, change_set: UnlandedWork | None = None
    ) -> Removed:
        def operation(transaction: Transaction) -> Removed:
            return mutations.delete(transaction, kind, transaction.get(kind, name), cascade)

        if kind not in (PLAN, TODO):
            return self._edit(operation)
        self._preview(operation)  # a refused deletion discards nothing
        left = self.unlanded_with(name)
        if left and change_set is None:
            raise mutations.has_unlanded_work(kind.noun, name, left)
        if change_set is UnlandedWork.DISCARD and self.discard is not None:
            for one in left:
                self.discard(one)
            left = ()
        removed = self._edit(operation)
        notes = tuple(f"the change set of {one} stays; see: coord changes {one}" for one in left)
        return removed.model_copy(update={"notes": (*removed.notes, *notes)})

    def _preview(self, operation: Callable[[Transaction], Result]) -> Result:
        """Return the result that the operation would have; write nothing."""
        from coordination.ecosystem.editing import Edit

        return operation(Transaction(Edit(self.document), self._now(), self.used_ids))

    def _guard(self, force: Force | None = None, on_check: OnCheck | None = None) -> CompletionGuard:
        return CompletionGuard(self._now().date(), self._recorded, force=force, on_check=on_check)

    def _edit(
        self, operation: Callable[[Transaction], Result], guard: CompletionGuard | None = None
    ) -> Result:
        """Run the operation in an edit and return its result. The operation is repeated if another process
        saves in between, and if the guard of completions must run checks first.
        """
        from coordination.ecosystem.editing import edit

        results: list[Result] = []
        judge = guard or self._guard()

        def decide(proposal: Edit) -> None:
            transaction = Transaction(proposal, self._now(), self.used_ids)
            results.append(operation(transaction))
            judge.judge(transaction)

        while True:
            try:
                self.document = edit(self.document.path, decide, check=self.may_edit)
                return results[-1]
            except Unjudged as unjudged:
                for repos in unjudged.repos if unjudged.criteria else ():
                    self._check_execution(repos)
                judge.learn(unjudged, self.document.path.parent)
