"""One todo as a plan of its own: what `execute` runs. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from coordination.models import Ecosystem, Plan, Todo
from coordination.planner.graph import PlanGraph, build
from coordination.planner.selection import Selectors

AD_HOC = "ad-hoc"
"""The plan of a todo that belongs to none."""


def alone(ecosystem: Ecosystem, todo: Todo, timeout: timedelta | None = None) -> PlanGraph:
    """The graph of nothing but this todo, in its plan or one made for it. `timeout`: instead of its own. Raises PlanRefused."""
    plan = next((p for p in ecosystem.coordination.plans if todo in ecosystem.todos_of(p)), None)
    if plan is None:
        plan = Plan(id=AD_HOC, title=f"only {todo.id}")
        ecosystem = _with(ecosystem, plan, todo)
    graph = build(ecosystem, plan.id, Selectors(todos=[todo.id]))
    if timeout and todo.id in graph.todos:
        graph = replace(graph, todos={**graph.todos, todo.id: todo.model_copy(update={"timeout": timeout})})
    return replace(graph, nothing_to_do=f"{todo.id} is {todo.status}") if graph.nothing_to_do else graph


def _with(ecosystem: Ecosystem, plan: Plan, todo: Todo) -> Ecosystem:
    parts = ecosystem.coordination
    todos = tuple(t.model_copy(update={"plan": plan.id}) if t.id == todo.id else t for t in parts.todos)
    return ecosystem.with_coordination(plans=(*parts.plans, plan), todos=todos)
