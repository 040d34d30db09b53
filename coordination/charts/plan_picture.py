"""The picture of a plan for `coord graph --format svg`. Pure."""

from __future__ import annotations

from coordination.charts.graph_picture import Box, Picture, draw
from coordination.models import Todo
from coordination.planner.gates import is_milestone
from coordination.planner.graph import PlanGraph
from coordination.text import counted, format_hours, listed


def svg(graph: PlanGraph) -> str:
    return draw(picture(graph))


def picture(graph: PlanGraph) -> Picture:
    boxes = {name: _box(graph, name, todo) for name, todo in graph.todos.items()}
    held = {name: _held(graph, name, todo) for name, todo in graph.blocked_todos.items()}
    return Picture(
        title=f"{graph.plan.id}  {' '.join(graph.plan.title.split())}",
        subtitle=_subtitle(graph),
        boxes=boxes | held,
        levels=graph.levels,
        predecessors=graph.predecessors,
        critical=graph.critical_path,
        apart=tuple(held),
        apart_words="blocked from outside",
    )


def _subtitle(graph: PlanGraph) -> str:
    if not graph.todos:
        return f"nothing to do: {graph.nothing_to_do}" if graph.nothing_to_do else "nothing can start"
    counts = f"{graph.size} in {counted(len(graph.levels), 'level')}"
    return f"{counts} · {format_hours(graph.work_hours)} of work · {format_hours(graph.critical_hours)} on the critical path"


def _box(graph: PlanGraph, name: str, todo: Todo) -> Box:
    first = name if is_milestone(todo) else f"{name} · {todo.repo}"
    hours, source = _hours(graph, name, todo)
    before = graph.predecessors[name]
    lines = [
        f"{name}  {todo.task}",
        f"{'a milestone' if is_milestone(todo) else todo.repo} · {todo.status.value.replace('_', ' ')} · {hours}{source}",
        f"after {listed(before)}" if before else "after nothing",
        *([f"needs {listed([str(need) for need in todo.resources])}"] if todo.resources else []),
    ]
    return Box(state=todo.status, first=first, right=hours, second=todo.task, hover="\n".join(lines))


def _hours(graph: PlanGraph, name: str, todo: Todo) -> tuple[str, str]:
    if is_milestone(todo):
        return "approval", ""
    hours = format_hours(graph.hours[name])
    if todo.estimated_hours is not None:
        return hours, ""
    return f"~{hours}", " (learned from earlier runs)" if name in graph.learned else " (assumed)"


def _held(graph: PlanGraph, name: str, todo: Todo) -> Box:
    words = f"blocked by {graph.blocked[name]}"
    hover = f"{name}  {todo.task}\n{todo.repo}\n{words}"
    return Box(state="blocked", first=f"{name} · {todo.repo}", right="", second=words, hover=hover, dashed=True)
