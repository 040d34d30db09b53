"""Read-only queries of the records in the file, without access to Redis."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

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
    Plan,
    PlanStatus,
    Repo,
    Todo,
    TodoStatus,
)
from coordination.tracker import mutations, queries, status
from coordination.tracker.completion import (
    Checks,
    OnCheck,
    Recorded,
    check_completion,
    folders_of,
    wants_checks,
)
from coordination.tracker.kinds import DEPENDENCY, ISSUE, PLAN, TODO, unknown
from coordination.tracker.queries import Executing, Joined, Wanted, join
from coordination.tracker.records import (
    BlockingIssue,
    DeletePreview,
    EcosystemStatus,
    PlanCompletion,
    RepoStatus,
)
from coordination.tracker.relations import Chains, Relations, chains_of


class Reader:
    """The records of one file.

    A filter takes one value or several alternatives; filters intersect. An unknown id, name or value is
    refused (NotFound, UsageError) with a suggestion.
    """

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

    def _check_execution(self, repos: Collection[str]) -> None:
        """Raise NotAllowed unless the user may let this machine execute commands of such a record."""
        if self.may_execute is not None:
            self.may_execute(repos)

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

    # Values of filters

    def _repos(self, wanted: Wanted) -> frozenset[str] | None:
        return queries.known_names(wanted, lambda: queries.repos_in_use(self.ecosystem), "repo", "repo list")

    def _labels(self, wanted: Wanted, listed_by: str) -> frozenset[str] | None:
        return queries.known_names(wanted, lambda: queries.labels(self.ecosystem), "label", listed_by)
