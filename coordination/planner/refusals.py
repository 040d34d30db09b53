"""Why a plan cannot be carried out, a sentence each, with what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import networkx as nx

from coordination.errors import PlanRefused
from coordination.models import Ecosystem, Plan, Todo
from coordination.nearest import did_you_mean
from coordination.phrases import listed
from coordination.planner.blockers import Register
from coordination.planner.cycles import shortest_cycles
from coordination.planner.gates import is_milestone


def undeclared_repos(ecosystem: Ecosystem, todos: Mapping[str, Todo]) -> Iterable[str]:
    declared = {repo.name for repo in ecosystem.repos}
    users: dict[str, list[str]] = {}
    for todo in todos.values():
        if todo.repo not in declared and not is_milestone(todo):
            users.setdefault(todo.repo, []).append(todo.id)
    for repo, names in users.items():
        near = did_you_mean(repo, declared)
        yield f"repo {repo!r} of {listed(names)} is not declared{near}: add it to repos, or correct the name"


def ambiguous(gates: Mapping[str, Todo], register: Register) -> Iterable[str]:
    for name, gate in gates.items():
        if register.items[name] is not gate:
            yield f"milestone {name} has a gate, and something else has that id, too: give the milestone another one"


def cycles(graph: nx.DiGraph[str]) -> Iterable[str]:
    if not nx.is_directed_acyclic_graph(graph):
        for cycle in shortest_cycles(graph):
            yield f"a cycle: {' → '.join(cycle)}: take one of these dependencies out"


def refusal(plan: Plan, problems: list[str]) -> PlanRefused:
    hint = "correct ecosystem.yaml, then: coord validate"
    if len(problems) == 1:
        return PlanRefused(f"{plan.id} cannot be carried out: {problems[0]}", hint)
    lines = "\n".join(f"  - {problem}" for problem in problems)
    return PlanRefused(f"{plan.id} cannot be carried out, for {len(problems)} reasons:\n{lines}", hint)
