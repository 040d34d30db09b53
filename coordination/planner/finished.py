"""A plan's graph with the todos that a sweep would not run any more, to be drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace

import networkx as nx

from coordination.models import Ecosystem, Todo, TodoStatus
from coordination.planner import paths
from coordination.planner.blockers import Register
from coordination.planner.gates import gates_of
from coordination.planner.graph import PlanGraph
from coordination.planner.selection import ALL, Selectors


def with_finished(
    graph: PlanGraph, ecosystem: Ecosystem, wanted: Selectors = ALL, executing: Collection[str] = ()
) -> PlanGraph:
    """Return the graph with the selected todos of the plan that are finished, before those that are not.

    `executing`: todos that a live run executes, which are shown in progress. A dependency of a finished todo
    on an open one is left out: it no longer counts.
    """
    asked = wanted.test(ecosystem)
    known = {*graph.todos, *graph.blocked_todos, *graph.left_out}
    over = {t.id: t for t in ecosystem.todos_of(graph.plan) if t.id not in known and asked(t)}
    register = Register(ecosystem, graph.plan, gates_of(graph.plan))
    before = {name: [other for other in register.waits_for(name) if other in over] for name in over}
    predecessors: dict[str, tuple[str, ...]] = {name: tuple(before[name]) for name in _ordered(before)}
    for name, others in graph.predecessors.items():
        predecessors[name] = (*others, *(n for n in register.waits_for(name) if n in over))
    depth = paths.depths(predecessors, predecessors)
    order = sorted(predecessors, key=depth.__getitem__)
    todos = {**over, **graph.todos}
    return replace(
        graph,
        todos={name: _shown(todos[name], name in executing) for name in order},
        predecessors={name: predecessors[name] for name in order},
        successors=paths.successors(order, predecessors),
        finished=frozenset(over),
    )


def count_by_status(graph: PlanGraph) -> Mapping[str, int]:
    """Return status → number of todos; todos that cannot run count as blocked."""
    statuses = (state_of(graph, name).value for name in graph.todos if name not in graph.milestones)
    return Counter([*statuses, *[TodoStatus.BLOCKED.value] * len(graph.blocked)])


def state_of(graph: PlanGraph, name: str) -> TodoStatus:
    """Return the status of a todo; a completed todo that a recurring plan runs again is pending."""
    status = graph.todos[name].status
    again = status is TodoStatus.COMPLETED and name not in graph.finished
    return TodoStatus.PENDING if again else status


def _ordered(before: dict[str, list[str]]) -> list[str]:
    """Return the names in topological order. In a cycle, which finished todos may have, none has a
    predecessor.
    """
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(before)
    graph.add_edges_from((other, name) for name, others in before.items() for other in others)
    if not nx.is_directed_acyclic_graph(graph):
        for others in before.values():
            others.clear()
        return list(before)
    return list(nx.topological_sort(graph))


def _shown(todo: Todo, executed: bool) -> Todo:
    return todo.model_copy(update={"status": TodoStatus.IN_PROGRESS}) if executed else todo
