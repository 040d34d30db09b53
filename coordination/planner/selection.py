"""Selection of the todos that a sweep of a plan executes: the plan's open todos, narrowed by selectors.

A todo that is not selected stays open and keeps blocking: its dependents are blocked by it, transitively.
Selecting a todo never makes it run before its predecessors.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from coordination.declared import Option
from coordination.errors import NotFound, PlanRefused, UsageError
from coordination.models import OPEN_TODO, Ecosystem, Plan, PlanStatus, Repo, Todo, TodoStatus
from coordination.text import did_you_mean, listed, require_known

AD_HOC = "ad-hoc"
"""Plan id of a todo that belongs to no plan."""


@dataclass(frozen=True, kw_only=True)
class Selectors:
    """Criteria for todos. Several values of one kind are a union, the kinds intersect, and an empty kind
    selects all.
    """

    repos: Annotated[
        Collection[str],
        Option("Select the todos of these repositories.", flag="--repo", completes="repo_names"),
    ] = ()
    tags: Annotated[
        Collection[str],
        Option("Select the todos of repositories with one of these tags.", flag="--tag", completes="tags"),
    ] = ()
    """Tags of repositories."""
    roles: Annotated[
        Collection[str],
        Option("Select the todos of repositories with one of these roles.", flag="--role", completes="roles"),
    ] = ()
    todos: Annotated[Collection[str], Option("Select these todos.", flag="--todo", completes="todo_ids")] = ()
    failed: Collection[str] | None = None
    """Todos that did not succeed in the plan's latest run; None unless only those are selected."""

    def test(self, ecosystem: Ecosystem) -> Callable[[Todo], bool]:
        """Return a function that tells whether a todo is selected."""
        repos = {repo.name for repo in ecosystem.repos if self._has_tag_and_role(repo)}
        by_repo = bool(self.tags or self.roles)

        def is_selected(todo: Todo) -> bool:
            return (
                (not by_repo or todo.repo in repos)
                and (not self.repos or todo.repo in self.repos)
                and (not self.todos or todo.id in self.todos)
                and (self.failed is None or todo.id in self.failed)
            )

        return is_selected

    def _has_tag_and_role(self, repo: Repo) -> bool:
        return (not self.tags or bool(set(self.tags) & set(repo.tags))) and (
            not self.roles or repo.role in self.roles
        )

    def select_repos(self, ecosystem: Ecosystem, *, everywhere: bool = False) -> tuple[Repo, ...]:
        """Return the selected repositories, in the file's order; `everywhere`: all of them.

        Raises UsageError where nothing is selected, or something and all; NotFound for an unknown repository,
        tag or role, and where no repository matches.
        """
        if bool(self.repos or self.tags or self.roles) is everywhere:
            selected = "all repositories and some of them" if everywhere else "no repositories"
            raise UsageError(f"{selected} are selected", "add --repo REPO, --tag TAG, --role ROLE or --all")
        _check_repos(ecosystem, {}, self)
        repos = tuple(
            repo
            for repo in ecosystem.repos
            if (not self.repos or repo.name in self.repos) and self._has_tag_and_role(repo)
        )
        if not repos:
            criteria = (("--repo", self.repos), ("--tag", self.tags), ("--role", self.roles))
            options = " ".join(f"{option} {name}" for option, names in criteria for name in names)
            fact = f"no repository matches {options}" if options else "the file declares no repository"
            raise NotFound(fact, "see the repositories with their tags and roles: coord repo list")
        return repos


ALL = Selectors()


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The todos of a plan, as a sweep selects them."""

    todos: Mapping[str, Todo] = field(default_factory=dict)
    """Todos to execute, in the file's order."""
    done: int = 0
    cancelled: int = 0
    left_out: tuple[str, ...] = ()
    """Open todos of the plan that are not selected."""
    nothing: str = ""
    """Reason why there is nothing to do; empty if there is something."""


def find_plan(ecosystem: Ecosystem, plan_id: str) -> Plan:
    """Return the plan of that id. Raises NotFound, or PlanRefused if its status forbids a sweep."""
    plans = {plan.id: plan for plan in ecosystem.coordination.plans}
    plan = plans.get(plan_id)
    if plan is None:
        hint = (
            f"the file declares: {listed(plans)}"
            if plans
            else "the file declares no plan yet: add one under coordination.plans"
        )
        raise NotFound(f"there is no plan {plan_id!r}{did_you_mean(plan_id, plans)}", hint)
    if plan.status is PlanStatus.CANCELLED:
        raise PlanRefused(
            f"{plan.id} is cancelled", f"reopen it first: coord plan update {plan.id} --status draft"
        )
    if plan.status is PlanStatus.ON_HOLD:
        raise PlanRefused(
            f"{plan.id} is on hold", f"resume it first: coord plan update {plan.id} --status active"
        )
    return plan


def select(ecosystem: Ecosystem, plan: Plan, wanted: Selectors = ALL) -> Selection:
    """Select the plan's todos. Raises NotFound for an unknown repository, tag, role or todo."""
    owned = {todo.id: todo for todo in ecosystem.todos_of(plan)}
    _check_repos(ecosystem, owned, wanted)
    _check_todos(ecosystem, plan, owned, wanted.todos)
    finished = plan.status is PlanStatus.COMPLETED
    due = OPEN_TODO | {TodoStatus.COMPLETED} if plan.recurring else OPEN_TODO
    open_ = {} if finished else {name: todo for name, todo in owned.items() if todo.status in due}
    is_selected = wanted.test(ecosystem)
    selected = {name: todo for name, todo in open_.items() if is_selected(todo)}
    return Selection(
        todos=selected,
        done=sum(todo.status is TodoStatus.COMPLETED and name not in open_ for name, todo in owned.items()),
        cancelled=sum(todo.status is TodoStatus.CANCELLED for todo in owned.values()),
        left_out=tuple(name for name in open_ if name not in selected),
        nothing="" if selected else _why_nothing(plan, owned, open_, wanted),
    )


def _check_repos(ecosystem: Ecosystem, owned: Mapping[str, Todo], wanted: Selectors) -> None:
    names = {repo.name: None for repo in ecosystem.repos} | {todo.repo: None for todo in owned.values()}
    tags = dict.fromkeys(tag for repo in ecosystem.repos for tag in repo.tags)
    roles = dict.fromkeys(repo.role for repo in ecosystem.repos if repo.role)
    for noun, names_of_kind, known in (
        ("repo", wanted.repos, names),
        ("repo with tag", wanted.tags, tags),
        ("repo with role", wanted.roles, roles),
    ):
        require_known(names_of_kind, known, noun, "repo list")


def _check_todos(ecosystem: Ecosystem, plan: Plan, owned: Mapping[str, Todo], todos: Collection[str]) -> None:
    if unknown := [name for name in todos if name not in owned]:
        elsewhere = {todo.id: todo for todo in ecosystem.coordination.todos}
        descriptions = ", ".join(_describe_unknown_todo(name, owned, elsewhere) for name in unknown)
        raise NotFound(f"{plan.id} has no todo {descriptions}", f"its todos: {listed(owned) or 'none'}")


def _describe_unknown_todo(name: str, owned: Mapping[str, Todo], elsewhere: Mapping[str, Todo]) -> str:
    if name not in elsewhere:
        return f"{name!r}{did_you_mean(name, owned)}"
    owner = elsewhere[name].plan
    return (
        f"{name!r} (it belongs to {owner})" if owner else f"{name!r} (it is declared, outside of this plan)"
    )


def _why_nothing(plan: Plan, owned: Mapping[str, Todo], open_: Mapping[str, Todo], wanted: Selectors) -> str:
    if plan.status is PlanStatus.COMPLETED:
        return f"{plan.id} is completed"
    if open_ and wanted.failed is not None and not wanted.failed:
        return f"nothing failed in the latest run of {plan.id}"
    if open_:
        return f"no open todo of {plan.id} is among the selected ones"
    if len(owned) == 1:
        return f"the one todo of {plan.id} is completed or cancelled"
    if owned:
        return f"all {len(owned):,} todos of {plan.id} are completed or cancelled"
    return f"{plan.id} has no todos: no todo names it, and none is open in its repos"
