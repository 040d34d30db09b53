"""Questions about what the file declares. Nothing here is written, and nothing is asked of Redis."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NoReturn

from coordination.ecosystem.document import Document
from coordination.errors import NotFound, PlanRefused
from coordination.models import Ecosystem, Level, Plan, PlanStatus, Repo, Todo, TodoStatus
from coordination.nearest import nearest


class CoordinationManager:
    """The read side of a document. Filters intersect; what is asked by an unknown id or name is refused as NotFound."""

    def __init__(self, document: Document) -> None:
        self.document = document

    @property
    def ecosystem(self) -> Ecosystem:
        return self.document.ecosystem

    def list_repos(self, tag: str | None = None, role: str | None = None) -> tuple[Repo, ...]:
        repos: Iterable[Repo] = self.ecosystem.repos
        if tag is not None:
            repos = (r for r in repos if tag in r.tags)
        if role is not None:
            repos = (r for r in repos if r.role == role)
        return tuple(repos)

    def get_repo(self, name: str) -> Repo:
        known = {r.name: r for r in self.ecosystem.repos}
        return known[name] if name in known else self._unknown("repo", name, known)

    def check_paths(self, names: Iterable[str]) -> None:
        """Raises PlanRefused for repositories that are not on this machine: its own worker would only wait for them."""
        places = ((name, self.document.repo_path(self.get_repo(name))) for name in names)
        missing = [f"{name}: {path or 'no path is declared'}" for name, path in places if not (path and path.is_dir())]
        if missing:
            raise PlanRefused(
                "not found on this machine: " + ", ".join(missing),
                "clone them there, or correct `path` of the repos in ecosystem.yaml",
            )

    def list_plans(self, status: PlanStatus | None = None, repo: str | None = None) -> tuple[Plan, ...]:
        """Plans of a repo are those that name it, and those with a todo in it."""
        plans: Iterable[Plan] = self.ecosystem.coordination.plans
        if status is not None:
            plans = (p for p in plans if p.status == status)
        if repo is not None:
            self._check_repo(repo)
            named = {t.plan for t in self.ecosystem.coordination.todos if t.repo == repo}
            plans = (p for p in plans if repo in p.repos or p.id in named)
        return tuple(plans)

    def get_plan(self, plan_id: str) -> Plan:
        known = {p.id: p for p in self.ecosystem.coordination.plans}
        return known[plan_id] if plan_id in known else self._unknown("plan", plan_id, known)

    def plan_todos(self, plan_id: str) -> tuple[Todo, ...]:
        """The todos that belong to the plan, in the file's order."""
        return self.ecosystem.todos_of(self.get_plan(plan_id))

    def list_todos(
        self,
        repo: str | None = None,
        status: TodoStatus | None = None,
        assignee: str | None = None,
        plan: str | None = None,
        priority: Level | None = None,
        label: str | None = None,
    ) -> tuple[Todo, ...]:
        todos: Iterable[Todo] = self.ecosystem.coordination.todos if plan is None else self.plan_todos(plan)
        if repo is not None:
            self._check_repo(repo)
        wanted = {"repo": repo, "status": status, "assignee": assignee, "priority": priority}
        for field, value in wanted.items():
            if value is not None:
                todos = [t for t in todos if getattr(t, field) == value]
        return tuple(t for t in todos if label is None or label in t.labels)

    def get_todo(self, todo_id: str) -> Todo:
        known = {t.id: t for t in self.ecosystem.coordination.todos}
        return known[todo_id] if todo_id in known else self._unknown("todo", todo_id, known)

    def _check_repo(self, name: str) -> None:
        """A filter by a repo that nobody knows would answer with nothing, which looks like good news."""
        known = {r.name for r in self.ecosystem.repos} | {t.repo for t in self.ecosystem.coordination.todos}
        known.update(repo for plan in self.ecosystem.coordination.plans for repo in plan.repos)
        if name not in known:
            self._unknown("repo", name, known)

    def _unknown(self, kind: str, name: str, known: Collection[str]) -> NoReturn:
        close = nearest(name, known)
        hint = f"did you mean {close}?" if close else f"see what there is: coord list-{kind}s"
        raise NotFound(f"there is no {kind} {name!r} in {self.document.path}", hint)
