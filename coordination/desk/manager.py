"""Everything that the file declares, asked for and changed: the deeds behind the commands, and behind the agents' tools.

    manager = CoordinationManager.open("ecosystem.yaml")
    todo = manager.create_todo(task="Raise the timeout", repo="api", plan="PLAN-001").record
    manager.complete_todo(todo.id, actual_hours=0.5)

Each deed is one edit of the file: all of it is in the file afterwards, or nothing (`ecosystem/editing.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from coordination.dependencies.records import DependencyReport, Outcome
from coordination.desk import deletion, finishing, milestones, queries, status
from coordination.desk.completion import OnCheck, checks_of, judge_completion
from coordination.desk.kinds import DEPENDENCY, ISSUE, KINDS, PLAN, TODO, Kind, R, unknown
from coordination.desk.links import Chains, chains_of
from coordination.desk.queries import Wanted
from coordination.desk.records import (
    BlockingIssue,
    EcosystemStatus,
    Edited,
    PlanCompletion,
    Removed,
    RepoStatus,
    Tie,
    WhatGoes,
)
from coordination.desk.sheet import Sheet
from coordination.desk.ties import Ties
from coordination.ecosystem.document import Document, find, load
from coordination.ecosystem.editing import Edit, edit
from coordination.errors import PlanRefused
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

D = TypeVar("D")
Fields = Mapping[str, Any]
"""By the file's names."""
Changes = Fields | Callable[[R], Fields]
"""None takes a field out, a list replaces the list. What depends on what stands there, like one more label, is a function
of the record: asked when the file is written, so that nothing of another writer is lost.
"""


class CoordinationManager:
    """The records of one file.

    Filters take one value or several of which any will do, and intersect. What is asked by an unknown id, name or word
    is refused (NotFound, UsageError) with what was probably meant. Deeds raise UsageError for values that the file could
    not hold, Conflict for what its status does not allow (`states.py`), EditConflict and CoordinationError where the file
    cannot be written; it is then as it was.
    """

    def __init__(self, document: Document, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.document = document
        """The file as it was read, or as the latest deed has left it."""
        self._now = now

    @classmethod
    def open(cls, ecosystem: str | Path | None = None) -> Self:
        """Of a file; a folder or None finds it as the commands do. Raises NotFound and InvalidFile."""
        return cls(load(find(Path.cwd(), None if ecosystem is None else Path(ecosystem))))

    @property
    def ecosystem(self) -> Ecosystem:
        return self.document.ecosystem

    # Repositories

    def list_repos(self, tag: Wanted = None, role: Wanted = None) -> tuple[Repo, ...]:
        """In the file's order."""
        repos = self.ecosystem.repos
        wanted = {
            "tags": queries.names(tag, lambda: (t for r in repos for t in r.tags), "tag of a repo", "list-repos"),
            "role": queries.names(role, lambda: (r.role for r in repos if r.role), "role of a repo", "list-repos"),
        }
        return tuple(queries.matching(repos, wanted))

    def get_repo(self, name: str) -> Repo:
        for repo in self.ecosystem.repos:
            if repo.name == name:
                return repo
        raise unknown("repo", name, [repo.name for repo in self.ecosystem.repos], "list-repos")

    def check_paths(self, names: Iterable[str]) -> None:
        """Raises PlanRefused for repositories that are not on this machine: its own worker would only wait for them."""
        places = ((name, self.document.repo_path(self.get_repo(name))) for name in names)
        missing = [f"{name}: {path or 'no path is declared'}" for name, path in places if not (path and path.is_dir())]
        if missing:
            raise PlanRefused(
                "not found on this machine: " + ", ".join(missing),
                "clone them there, or correct `path` of the repos in ecosystem.yaml",
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
        """By priority, target date and id."""
        wanted = {
            "status": queries.words(status, IssueStatus, "status"),
            "priority": queries.words(priority, Level, "priority"),
            "repos": self._repos(repo),
            "assignee": self._assignees(assignee),
            "labels": self._labels(label),
        }
        return queries.sorted_issues(queries.matching(ISSUE.all(self.ecosystem), wanted))

    def get_issue(self, issue_id: str) -> Issue:
        return ISSUE.get(self.ecosystem, issue_id)

    def create_issue(self, **fields: Any) -> Edited:
        """`title` at least; without an `id` it gets the next one."""
        return self._create(ISSUE, fields)

    def update_issue(self, issue_id: str, changes: Changes[Issue]) -> Edited:
        return self._update(ISSUE, issue_id, changes)

    def close_issue(self, issue_id: str) -> Edited:
        """Raises Conflict when it is closed already."""
        return self._finish(ISSUE, issue_id, {"status": IssueStatus.CLOSED})

    def delete_issue(self, issue_id: str, cascade: bool = False) -> Removed:
        """Raises Conflict while others name it; with `cascade` it is taken out of them."""
        return self._delete(ISSUE, issue_id, cascade)

    # Todos

    def list_todos(
        self,
        repo: Wanted = None,
        status: Wanted = None,
        assignee: Wanted = None,
        plan: Wanted = None,
        priority: Wanted = None,
        label: Wanted = None,
    ) -> tuple[Todo, ...]:
        """By priority and id."""
        wanted = {
            "repo": self._repos(repo),
            "status": queries.words(status, TodoStatus, "status"),
            "assignee": self._assignees(assignee),
            "priority": queries.words(priority, Level, "priority"),
            "labels": self._labels(label),
        }
        todos = TODO.all(self.ecosystem)
        if plan is not None:
            owned = {todo.id: todo for name in sorted(queries.values(plan) or ()) for todo in self.plan_todos(name)}
            todos = tuple(owned.values())
        return queries.sorted_todos(queries.matching(todos, wanted))

    def get_todo(self, todo_id: str) -> Todo:
        return TODO.get(self.ecosystem, todo_id)

    def create_todo(self, **fields: Any) -> Edited:
        """`task` and `repo` at least; without an `id` it gets the next one."""
        return self._create(TODO, fields)

    def update_todo(self, todo_id: str, changes: Changes[Todo]) -> Edited:
        return self._update(TODO, todo_id, changes)

    def complete_todo(self, todo_id: str, actual_hours: float | None = None) -> Edited:
        """Raises Conflict when it is completed or cancelled already."""
        hours = {} if actual_hours is None else {"actual_hours": actual_hours}
        return self._finish(TODO, todo_id, {"status": TodoStatus.COMPLETED, **hours})

    def delete_todo(self, todo_id: str, cascade: bool = False) -> Removed:
        """Raises Conflict while others name it; with `cascade` it is taken out of them."""
        return self._delete(TODO, todo_id, cascade)

    # Plans and their milestones

    def list_plans(self, status: Wanted = None, repo: Wanted = None) -> tuple[Plan, ...]:
        """By target date and id. Plans of a repo are those that name it, and those with a todo in it."""
        wanted = {"status": queries.words(status, PlanStatus, "status")}
        plans = queries.matching(PLAN.all(self.ecosystem), wanted)
        repos = self._repos(repo)
        if repos is not None:
            named = {todo.plan for todo in TODO.all(self.ecosystem) if todo.repo in repos}
            plans = [plan for plan in plans if not repos.isdisjoint(plan.repos) or plan.id in named]
        return queries.sorted_plans(plans)

    def get_plan(self, plan_id: str) -> Plan:
        return PLAN.get(self.ecosystem, plan_id)

    def plan_todos(self, plan_id: str) -> tuple[Todo, ...]:
        """The todos that belong to the plan, in the file's order."""
        return self.ecosystem.todos_of(self.get_plan(plan_id))

    def create_plan(self, **fields: Any) -> Edited:
        """`title` at least; without an `id` it gets the next one."""
        return self._create(PLAN, fields)

    def update_plan(
        self,
        plan_id: str,
        changes: Changes[Plan] = {},  # noqa: B006 - a mapping that nobody writes to
        *,
        complete_milestones: Sequence[str] = (),
        add_milestones: Sequence[Fields] = (),
    ) -> Edited:
        """All in one edit; milestones are completed first. A plan is not completed while a todo or milestone is open."""

        def deed(sheet: Sheet) -> Edited:
            plan = before = sheet.get(PLAN, plan_id)
            for name in complete_milestones:
                plan = milestones.complete(sheet, plan, name)
            for fields in add_milestones:
                plan = milestones.add(sheet, plan, fields)
            return finishing.updated(sheet, PLAN, before, plan, changes)

        return self._edit(deed)

    def add_milestone(self, plan_id: str, **fields: Any) -> Edited:
        """`name` at least; without an `id` it gets the next one of the plan. The record is the plan."""
        return self.update_plan(plan_id, add_milestones=[fields])

    def complete_milestone(self, plan_id: str, milestone_id: str) -> Edited:
        """Raises Conflict when it is completed or cancelled already. The record is the plan."""
        return self.update_plan(plan_id, complete_milestones=[milestone_id])

    def delete_plan(self, plan_id: str, cascade: bool = False) -> Removed:
        """Raises Conflict while others name it; with `cascade` its todos go too, and it is taken out of the others."""
        return self._delete(PLAN, plan_id, cascade)

    def validate_plan_completion(
        self, plan_id: str, *, run_checks: bool = False, on_check: OnCheck | None = None
    ) -> PlanCompletion:
        """Whether the plan may count as done. With `run_checks` the commands of its criteria are run, 60 s each."""
        plan = self.get_plan(plan_id)
        checks = checks_of(self.document, plan, run_checks, on_check)
        return judge_completion(self.ecosystem, plan, checks, self._now().date())

    # Dependencies

    def list_dependencies(
        self, consumer: Wanted = None, provider: Wanted = None, type: Wanted = None, status: Wanted = None
    ) -> tuple[Dependency, ...]:
        """By id."""
        wanted = {
            "consumer": self._repos(consumer),
            "provider": self._repos(provider),
            "type": queries.words(type, DependencyType, "type"),
            "status": queries.words(status, DependencyStatus, "status"),
        }
        return queries.sorted_dependencies(queries.matching(DEPENDENCY.all(self.ecosystem), wanted))

    def get_dependency(self, dependency_id: str) -> Dependency:
        return DEPENDENCY.get(self.ecosystem, dependency_id)

    def create_dependency(self, **fields: Any) -> Edited:
        """`consumer` and `provider` at least; without an `id` it gets the next one."""
        return self._create(DEPENDENCY, fields)

    def update_dependency(self, dependency_id: str, changes: Changes[Dependency]) -> Edited:
        return self._update(DEPENDENCY, dependency_id, changes)

    def delete_dependency(self, dependency_id: str, cascade: bool = False) -> Removed:
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
        """Check them for real, up to `jobs` (8) at once, and write the statuses that have changed unless `write` is off.

        Whatever ends the call early, a Ctrl-C above all, ends what it has started, and nothing is written.
        """
        from coordination.desk import checking  # with what reads versions: 30 ms, for those who need it

        wanted = self.list_dependencies(consumer=consumer, type=type)
        if named := queries.values(ids):
            wanted = tuple(d for d in map(self.get_dependency, sorted(named, key=queries.natural)) if d in wanted)
        report = checking.report(self.document, wanted, jobs, on_outcome)
        return self.write_outcomes(report) if write else report

    def write_outcomes(self, report: DependencyReport) -> DependencyReport:
        """Of a check with `write` off: write what is news, for those who want to see the report whether or not that works."""
        from coordination.desk import checking

        before = self.document
        if not (news := checking.news(before, report.outcomes)):
            return report
        return report.model_copy(update={"written": self._edit(lambda sheet: checking.write(sheet, before, news))})

    # Many at once

    def create_all(self, noun: str, records: Iterable[Fields]) -> tuple[Edited, ...]:
        """All of them in one edit, or none; `noun` is issue, todo, plan or dependency. A later one may name an earlier one."""
        kind: Kind[Any] = next(kind for kind in KINDS if kind.noun == noun)
        given = list(records)
        return self._edit(lambda sheet: finishing.created(sheet, kind, given))

    # Looks

    def blockers_of(self, name: str) -> tuple[Tie, ...]:
        """What an issue, plan or todo directly waits for, finished or not."""
        ties = self._ties(name)
        return ties.ties(ties.waits_for(name))

    def blocked_by_it(self, name: str) -> tuple[Tie, ...]:
        """What directly waits for an issue, plan or todo."""
        ties = self._ties(name)
        return ties.ties(ties.dependents(name))

    def chains_of(self, name: str) -> Chains:
        """What an issue, plan or todo waits for and what it holds up, with what stands behind each."""
        return chains_of(self._ties(name), name)

    def get_blocking_issues(self, repo: str) -> tuple[BlockingIssue, ...]:
        """Open issues that hold up open work of the repository, directly or at the end of a chain."""
        self._repos(repo)
        return status.blocking_issues(self.ecosystem, repo)

    def get_repo_status(self, repo: str) -> RepoStatus:
        """Of one that the file declares or only uses."""
        self._repos(repo)
        declared = next((known for known in self.ecosystem.repos if known.name == repo), Repo(name=repo))
        return status.repo_status(self.document, declared)

    def get_ecosystem_status(self) -> EcosystemStatus:
        return status.ecosystem_status(self.document, self._now().date())

    def what_goes(self, name: str) -> WhatGoes:
        """What `cascade` would take along."""
        return deletion.what_goes(self.ecosystem, name)

    def _ties(self, name: str) -> Ties:
        ties = Ties(self.ecosystem)
        if name not in ties.items:
            raise unknown("issue, plan or todo", name, ties.items, "list-todos")
        return ties

    # How a deed is done

    def _create(self, kind: Kind[R], fields: Fields) -> Edited:
        return self._edit(lambda sheet: finishing.created(sheet, kind, [fields])[0])

    def _update(self, kind: Kind[R], name: str, changes: Changes[R]) -> Edited:
        def deed(sheet: Sheet) -> Edited:
            record = sheet.get(kind, name)
            return finishing.updated(sheet, kind, record, record, changes)

        return self._edit(deed)

    def _finish(self, kind: Kind[R], name: str, changes: Fields) -> Edited:
        return self._edit(lambda sheet: finishing.finished(sheet, kind, sheet.get(kind, name), changes))

    def _delete(self, kind: Kind[R], name: str, cascade: bool) -> Removed:
        return self._edit(lambda sheet: deletion.delete(sheet, kind, sheet.get(kind, name), cascade))

    def _edit(self, deed: Callable[[Sheet], D]) -> D:
        """The answer of the deed's last round: it is done anew when somebody else saves in between."""
        answers: list[D] = []

        def decide(proposal: Edit) -> None:
            answers.append(deed(Sheet(proposal, self._now())))

        self.document = edit(self.document.path, decide)
        return answers[-1]

    # What filters may ask for

    def _repos(self, wanted: Wanted) -> frozenset[str] | None:
        return queries.names(wanted, lambda: queries.repos_in_use(self.ecosystem), "repo", "list-repos")

    def _assignees(self, wanted: Wanted) -> frozenset[str] | None:
        return queries.names(wanted, lambda: queries.assignees(self.ecosystem), "assignee", "list-todos")

    def _labels(self, wanted: Wanted) -> frozenset[str] | None:
        return queries.names(wanted, lambda: queries.labels(self.ecosystem), "label", "list-todos")
