"""Find the reasons for which a plan cannot be executed: cycles, undeclared repositories, ambiguous ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import networkx as nx

from coordination.errors import PlanRefused
from coordination.models import Ecosystem, Plan, Todo
from coordination.planner.blockers import Register
from coordination.planner.gates import is_milestone
from coordination.text import cycle_through, did_you_mean, listed

Edges = dict[str, set[str]]


def shortest_cycles(graph: nx.DiGraph[str]) -> list[list[str]]:
    """Return one shortest cycle `[A, B, C, A]` of each strongly connected component (Tarjan 1972, by
    networkx).
    """
    position = {name: i for i, name in enumerate(graph)}
    found = []
    for component in nx.strongly_connected_components(graph):
        names = sorted(component, key=position.__getitem__)
        cycle = _shortest_cycle(names, {name: graph.adj[name] for name in names})
        if cycle:
            found.append(_rotate_to_first(cycle, position))
    return sorted(found, key=lambda cycle: position[cycle[0]])


def _rotate_to_first(cycle: list[str], position: Mapping[str, int]) -> list[str]:
    """Return the cycle starting at its first node in the graph's order, so that messages are stable from run
    to run.
    """
    ring = cycle[:-1]
    first = ring.index(min(ring, key=position.__getitem__))
    return [*ring[first:], *ring[:first], ring[first]]


def _shortest_cycle(names: Iterable[str], adjacency: Mapping[str, Iterable[str]]) -> list[str]:
    """Return a shortest cycle (Itai and Rodeh 1978): a breadth-first search from each node, limited by the
    best cycle so far.

    A node whose search is done cannot lie on a shorter cycle. It is removed, with all nodes that lie on no
    cycle without it. So one cycle of 10,000 todos is searched once, not 10,000 times.
    """
    after: Edges = {name: {other for other in adjacency[name] if other in adjacency} for name in names}
    before: Edges = {name: set() for name in after}
    for name, others in after.items():
        for other in others:
            before[other].add(name)
    best: list[str] = []
    for name in list(after):
        if name in after:
            best = cycle_through(name, after, len(best) - 1) or best
            _drop(name, after, before)
    return best


def _drop(name: str, after: Edges, before: Edges) -> None:
    """Remove the node, and then every node that has no predecessors or no successors left."""
    going = [name]
    while going:
        gone = going.pop()
        if gone not in after:
            continue
        for other in after.pop(gone) - {gone}:
            before[other].discard(gone)
            if not before[other]:
                going.append(other)
        for other in before.pop(gone) - {gone}:
            after[other].discard(gone)
            if not after[other]:
                going.append(other)


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
            yield (
                f"milestone {name} has a gate, and something else has that id, too: "
                "give the milestone another one"
            )


def cycles(graph: nx.DiGraph[str]) -> Iterable[str]:
    if not nx.is_directed_acyclic_graph(graph):
        for cycle in shortest_cycles(graph):
            yield f"a cycle: {' → '.join(cycle)}: remove one of these dependencies"


def refusal(plan: Plan, problems: list[str]) -> PlanRefused:
    hint = "correct ecosystem.yaml, then: coord validate"
    if len(problems) == 1:
        return PlanRefused(f"{plan.id} cannot be executed: {problems[0]}", hint)
    lines = "\n".join(f"  - {problem}" for problem in problems)
    return PlanRefused(f"{plan.id} cannot be executed, for {len(problems)} reasons:\n{lines}", hint)
