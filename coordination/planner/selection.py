"""Which todos a sweep of a plan takes: the plan's open ones, narrowed to the repos and todos that were asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from coordination.errors import NotFound, PlanRefused
from coordination.models import OPEN_TODO, Ecosystem, Plan, PlanStatus, Todo, TodoStatus

NAMES_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Selection:
    todos: Mapping[str, Todo] = field(default_factory=dict)
    """What is to be done, in the file's order."""
    done: int = 0
    cancelled: int = 0
    left_out: tuple[str, ...] = ()
    """Open todos of the plan that `repos` and `todos` did not ask for."""
    nothing: str = ""
    """Why there is nothing to do; empty when there is something."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest known name as words to append, or nothing."""
    near = get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def listed(names: Collection[str]) -> str:
    """Names for people: a long list is cut, and says so."""
    shown = ", ".join(list(names)[:NAMES_SHOWN])
    return f"{shown} and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else shown


def find_plan(ecosystem: Ecosystem, plan_id: str) -> Plan:
    """The plan of that id, if it may be carried out."""
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
        raise PlanRefused(f"{plan.id} is cancelled", "set its status to active if it is to be carried out after all")
    if plan.status is PlanStatus.ON_HOLD:
        raise PlanRefused(f"{plan.id} is on hold", "set its status to active when it may go on, then sweep it again")
    return plan


def select(ecosystem: Ecosystem, plan: Plan, repos: Collection[str] = (), todos: Collection[str] = ()) -> Selection:
    """The plan's open todos that are in one of `repos` and among `todos`; an empty selector asks for all."""
    owned = {todo.id: todo for todo in ecosystem.todos_of(plan)}
    _check_repos(ecosystem, owned, repos)
    _check_todos(ecosystem, plan, owned, todos)
    finished = plan.status is PlanStatus.COMPLETED
    open_ = {} if finished else {name: todo for name, todo in owned.items() if todo.status in OPEN_TODO}
    asked = {n: t for n, t in open_.items() if (not repos or t.repo in repos) and (not todos or n in todos)}
    return Selection(
        todos=asked,
        done=sum(todo.status is TodoStatus.COMPLETED for todo in owned.values()),
        cancelled=sum(todo.status is TodoStatus.CANCELLED for todo in owned.values()),
        left_out=tuple(name for name in open_ if name not in asked),
        nothing="" if asked else _why_nothing(plan, owned, open_),
    )


def _check_repos(ecosystem: Ecosystem, owned: Mapping[str, Todo], repos: Collection[str]) -> None:
    known = {repo.name: None for repo in ecosystem.repos} | {todo.repo: None for todo in owned.values()}
    if unknown := [name for name in repos if name not in known]:
        words = ", ".join(f"{name!r}{did_you_mean(name, known)}" for name in unknown)
        raise NotFound(f"there is no repo {words}", "coord list-repos shows the declared ones")


def _check_todos(ecosystem: Ecosystem, plan: Plan, owned: Mapping[str, Todo], todos: Collection[str]) -> None:
    if unknown := [name for name in todos if name not in owned]:
        elsewhere = {todo.id: todo for todo in ecosystem.coordination.todos}
        words = ", ".join(_stranger(name, owned, elsewhere) for name in unknown)
        raise NotFound(f"{plan.id} has no todo {words}", f"its todos: {listed(owned) or 'none'}")


def _stranger(name: str, owned: Mapping[str, Todo], elsewhere: Mapping[str, Todo]) -> str:
    if name not in elsewhere:
        return f"{name!r}{did_you_mean(name, owned)}"
    owner = elsewhere[name].plan
    return f"{name!r} (it belongs to {owner})" if owner else f"{name!r} (it is declared, outside of this plan)"


def _why_nothing(plan: Plan, owned: Mapping[str, Todo], open_: Mapping[str, Todo]) -> str:
    if plan.status is PlanStatus.COMPLETED:
        return f"{plan.id} is completed"
    if open_:
        return f"none of the {len(open_)} open todos of {plan.id} is among those asked for"
    if owned:
        return f"all {len(owned)} todos of {plan.id} are completed or cancelled"
    return f"{plan.id} has no todos: no todo names it, and none is open in its repos"
