"""Draw the graph of a run with the states of its todos, and its Gantt chart. Only reads."""

from __future__ import annotations

from collections.abc import Mapping

from coordination.charts.graph_picture import Box, Picture
from coordination.charts.graph_picture import draw as draw_graph
from coordination.errors import NotFound
from coordination.planner import paths
from coordination.planner.gates import MILESTONE_REPO
from coordination.runs.records import RunView, TodoView
from coordination.runs.store import RunStore
from coordination.runs.views.gantt import draw as draw_gantt
from coordination.runs.views.run_events import all_events
from coordination.runs.views.run_view import RunReader
from coordination.runs.views.timeline import timeline, timeline_critical_path
from coordination.text import counted, format_hours


def gantt(store: RunStore, run_id: str) -> str:
    """Return the Gantt chart as SVG. Raise NotFound where the run or its events do not exist."""
    view, brief = RunReader(store.redis, store.keys).read(run_id), store.brief(run_id)
    repo_of = {todo.id: todo.repo for todo in view.todos}
    line = timeline(list(all_events(store.redis, store.keys, run_id)), repo_of, store.now_ms())
    if line is None:
        raise NotFound(f"run {run_id} has no events to draw", f"see its todos: coord show-run {run_id}")
    return draw_gantt(view, line, timeline_critical_path(line, brief.predecessors, repo_of))


def graph(store: RunStore, run_id: str, tasks: Mapping[str, str]) -> str:
    """Return the graph as SVG. `tasks`: todo → its title in the file. Raise NotFound."""
    view, brief = RunReader(store.redis, store.keys).read(run_id), store.brief(run_id)
    return draw_graph(picture(view, brief.predecessors, tasks))


def picture(run: RunView, predecessors: Mapping[str, tuple[str, ...]], tasks: Mapping[str, str]) -> Picture:
    """Return the picture; its critical path is computed from the measured durations."""
    todos = {todo.id: todo for todo in run.todos}
    order = [name for name in predecessors if name in todos]
    depth = paths.depths(order, predecessors)
    levels: list[list[str]] = [[] for _ in range(1 + max(depth.values(), default=-1))]
    for name in order:
        levels[depth[name]].append(name)
    return Picture(
        title=f"{run.plan_id}  run {run.run_id}",
        subtitle=_subtitle(run),
        boxes={name: _box(todo, tasks.get(name, "")) for name, todo in todos.items()},
        levels=levels,
        predecessors=predecessors,
        critical=_longest(
            {n: todos[n].duration_s or 0.0 for n in order if todos[n].started_at}, predecessors
        ),
        apart=[name for name in todos if name not in depth],
        apart_words="blocked from outside",
    )


def _longest(ran: Mapping[str, float], predecessors: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    order = tuple(ran)
    after = paths.successors(
        order, {name: [other for other in predecessors[name] if other in ran] for name in order}
    )
    return paths.critical_path(
        {name: i for i, name in enumerate(order)}, paths.ranks(order, after, ran), after
    )


def _subtitle(run: RunView) -> str:
    counts = ", ".join(f"{n} {state.replace('_', ' ')}" for state, n in run.counts.items())
    took = f" in {format_hours(run.duration_s / 3600)}" if run.duration_s is not None else ""
    return (
        f"{counted(len(run.todos), 'todo')} · {run.status.replace('_', ' ')} by "
        f"{run.strategy}{took} · {counts}"
    )


def _box(todo: TodoView, task: str) -> Box:
    took = "" if todo.duration_s is None else format_hours(todo.duration_s / 3600)
    where = "a milestone" if todo.repo == MILESTONE_REPO else todo.repo
    state = "cached" if todo.cached else todo.state.value
    words = state.replace("_", " ")
    why = todo.error or todo.waits_for or ""
    about = [task or f"{todo.id} of {where}", f"{where} · {words}{f' in {took}' if took else ''}"]
    about += [f"try {todo.attempt}"] if todo.attempt > 1 else []
    about += [f"by {todo.worker}"] if todo.worker else []
    return Box(
        state=state,
        first=todo.id if todo.repo == MILESTONE_REPO else f"{todo.id} · {todo.repo}",
        right=took,
        second=why or task or words,
        hover="\n".join([todo.id, *about, *([why] if why else [])]),
        dashed=todo.state.ended and todo.started_at is None and not todo.cached,
    )
