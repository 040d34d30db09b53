"""A plan's graph as plain data, for JSON."""

from __future__ import annotations

from typing import Any

from coordination.models import Gate, Todo
from coordination.planner.gates import is_milestone
from coordination.planner.graph import PlanGraph, state_of


def plan_data(graph: PlanGraph, drawn: PlanGraph | None = None) -> dict[str, Any]:
    """Return the graph as plain data for `--format json`; its names are stable. `drawn`: the graph with its
    finished todos.
    """
    drawn = drawn or graph
    return {
        "plan": {"id": graph.plan.id, "title": graph.plan.title},
        "nothing_to_do": graph.nothing_to_do,
        "todos": [_json_todo(graph, name, todo) for name, todo in graph.todos.items()],
        "edges": [list(edge) for edge in graph.edges],
        "redundant": [list(edge) for edge in graph.redundant],
        "levels": [list(level) for level in graph.levels],
        "critical_path": list(graph.critical_path),
        "blocked": [
            {"id": name, "repo": todo.repo, "task": todo.task, "blocked_by": graph.blocked[name]}
            for name, todo in graph.blocked_todos.items()
        ],
        "unreachable": list(graph.unreachable),
        "left_out": list(graph.left_out),
        "finished": [_json_finished(drawn, name) for name in drawn.todos if name in drawn.finished],
        "states": {name: state_of(drawn, name).value for name in drawn.todos},
        "figures": _json_figures(graph),
    }


def _json_finished(graph: PlanGraph, name: str) -> dict[str, Any]:
    todo = graph.todos[name]
    return {
        "id": name,
        "repo": todo.repo,
        "task": todo.task,
        "status": todo.status.value,
        "actual_hours": todo.actual_hours,
        "predecessors": list(graph.predecessors[name]),
        "successors": list(graph.successors[name]),
    }


def _json_todo(graph: PlanGraph, name: str, todo: Todo) -> dict[str, Any]:
    return {
        "id": name,
        "repo": todo.repo,
        "task": todo.task,
        "status": todo.status.value,
        "priority": todo.priority.value,
        "level": graph.depth[name],
        "order": graph.order[name],
        "hours": graph.hours[name],
        "estimated": todo.estimated_hours is not None,
        "learned": name in graph.learned,
        "remaining_hours": graph.rank[name],
        "predecessors": list(graph.predecessors[name]),
        "resources": [need.model_dump() for need in todo.resources],
        "milestone": is_milestone(todo),
        "gate": todo.gate and _json_gate(todo.gate),
    }


def _json_gate(gate: Gate) -> dict[str, Any]:
    return {
        "timeout_s": gate.timeout.total_seconds() if gate.timeout else None,
        "on_timeout": gate.on_timeout.value,
    }


def _json_figures(graph: PlanGraph) -> dict[str, Any]:
    return {
        "todos": len(graph.todos),
        "edges": sum(map(len, graph.successors.values())),
        "levels": len(graph.levels),
        "width": graph.width,
        "work_hours": graph.work_hours,
        "critical_hours": graph.critical_hours,
        "parallelism": graph.parallelism,
        "learned": len(graph.learned),
        "assumed": graph.assumed,
        "assumed_hours": graph.assumed_hours,
        "done": graph.done,
        "cancelled": graph.cancelled,
    }
