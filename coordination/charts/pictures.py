"""Pictures of the graph of a plan, of that of a run, and of the repositories with their dependencies. Pure.

In the picture of repositories, an arrow leads from a repository to one that needs it. Repositories that need
each other in a circle are drawn in the order of their names, without the arrow back; a repository without
dependencies is drawn apart.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from coordination.charts.graph_picture import Box, Picture, draw
from coordination.charts.plan import APPROVAL, marked, status_counts
from coordination.models import Dependency, DependencyStatus, Ecosystem, Todo, TodoStatus
from coordination.planner import paths
from coordination.planner.gates import MILESTONE_REPO, is_milestone
from coordination.planner.graph import PlanGraph, state_of
from coordination.runs.views.records import RunView, TodoView
from coordination.states import words_of
from coordination.text import counted, format_hours, listed

ACTIVE = (TodoStatus.IN_PROGRESS, TodoStatus.BLOCKED)


def plan_svg(graph: PlanGraph) -> str:
    """Return the picture of a plan as an SVG file."""
    return draw(plan_picture(graph))


def plan_picture(graph: PlanGraph) -> Picture:
    boxes = {name: _todo_box(graph, name, todo) for name, todo in graph.todos.items()}
    blocked = {name: _blocked_box(graph, name, todo) for name, todo in graph.blocked_todos.items()}
    return Picture(
        title=f"{graph.plan.id}  {' '.join(graph.plan.title.split())}",
        subtitle=_subtitle(graph),
        boxes=boxes | blocked,
        levels=graph.levels,
        predecessors=graph.predecessors,
        critical=graph.critical_path,
        apart=tuple(blocked),
        apart_words="blocked from outside",
    )


def _subtitle(graph: PlanGraph) -> str:
    if not graph.todos:
        return f"nothing to do: {graph.nothing_to_do}" if graph.nothing_to_do else "nothing can start"
    if len(graph.finished) == len(graph.todos):
        return status_counts(graph)
    counts = f"{graph.size} in {counted(len(graph.levels), 'level')}"
    if graph.finished:
        counts = f"{status_counts(graph)} · to do: {graph.size}"
    work, critical = format_hours(graph.work_hours), format_hours(graph.critical_hours)
    return f"{counts} · {work} of work · {critical} on the critical path"


def _todo_box(graph: PlanGraph, name: str, todo: Todo) -> Box:
    first = marked(graph, name) if is_milestone(todo) else f"{marked(graph, name)} · {todo.repo}"
    hours, source = _hours(graph, name, todo)
    state = state_of(graph, name)
    before = graph.predecessors[name]
    where = "a milestone" if is_milestone(todo) else todo.repo
    lines = [
        f"{name}  {todo.task}",
        " · ".join(filter(None, (where, words_of(state), f"{hours}{source}" if hours else ""))),
        f"after {listed(before)}" if before else "after nothing",
        *([f"needs {listed([str(need) for need in todo.resources])}"] if todo.resources else []),
    ]
    return Box(state=state, first=first, right=hours, second=todo.task, hover="\n".join(lines))


def _hours(graph: PlanGraph, name: str, todo: Todo) -> tuple[str, str]:
    if is_milestone(todo):
        return APPROVAL, ""
    if name in graph.finished:
        return "", ""
    hours = format_hours(graph.hours[name])
    if todo.estimated_hours is not None:
        return hours, ""
    return f"~{hours}", " (learned from earlier runs)" if name in graph.learned else " (assumed)"


def _blocked_box(graph: PlanGraph, name: str, todo: Todo) -> Box:
    reason = f"blocked by {graph.blocked[name]}"
    hover = f"{name}  {todo.task}\n{todo.repo}\n{reason}"
    return Box(
        state="blocked", first=f"{name} · {todo.repo}", right="", second=reason, hover=hover, dashed=True
    )


def run_svg(run: RunView, predecessors: Mapping[str, tuple[str, ...]], tasks: Mapping[str, str]) -> str:
    """Return the graph of a run with the states of its todos as an SVG file; its critical path is computed
    from the measured durations. `tasks`: todo → its task in the file.
    """
    todos = {todo.id: todo for todo in run.todos}
    order = [name for name in predecessors if name in todos]
    depth = paths.depths(order, predecessors)
    levels: list[list[str]] = [[] for _ in range(1 + max(depth.values(), default=-1))]
    for name in order:
        levels[depth[name]].append(name)
    picture = Picture(
        title=f"{run.plan_id}  run {run.run_id}",
        subtitle=_run_subtitle(run),
        boxes={name: _box_of_run(todo, tasks.get(name, "")) for name, todo in todos.items()},
        levels=levels,
        predecessors=predecessors,
        critical=_longest(
            {n: todos[n].duration_s or 0.0 for n in order if todos[n].started_at}, predecessors
        ),
        apart=[name for name in todos if name not in depth],
        apart_words="blocked from outside",
    )
    return draw(picture)


def _longest(ran: Mapping[str, float], predecessors: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    order = tuple(ran)
    after = paths.successors(
        order, {name: [other for other in predecessors[name] if other in ran] for name in order}
    )
    return paths.critical_path(
        {name: i for i, name in enumerate(order)}, paths.ranks(order, after, ran), after
    )


def _run_subtitle(run: RunView) -> str:
    counts = ", ".join(f"{n} {words_of(state)}" for state, n in run.counts.items())
    took = f" in {format_hours(run.duration_s / 3600)}" if run.duration_s is not None else ""
    return f"{counted(len(run.todos), 'todo')} · {words_of(run.status)} by {run.strategy}{took} · {counts}"


def _box_of_run(todo: TodoView, task: str) -> Box:
    took = "" if todo.duration_s is None else format_hours(todo.duration_s / 3600)
    where = "a milestone" if todo.repo == MILESTONE_REPO else todo.repo
    state = "cached" if todo.cached else todo.state.value
    state_text = words_of(state)
    reason = todo.error or todo.waits_for or ""
    lines = [task or f"{todo.id} of {where}", f"{where} · {state_text}{f' in {took}' if took else ''}"]
    lines += [f"try {todo.attempt}"] if todo.attempt > 1 else []
    lines += [f"by {todo.worker}"] if todo.worker else []
    return Box(
        state=state,
        first=todo.id if todo.repo == MILESTONE_REPO else f"{todo.id} · {todo.repo}",
        right=took,
        second=reason or task or state_text,
        hover="\n".join([todo.id, *lines, *([reason] if reason else [])]),
        dashed=todo.state.ended and todo.started_at is None and not todo.cached,
    )


def repositories_svg(ecosystem: Ecosystem) -> str:
    """Return the picture of the repositories as an SVG file."""
    return draw(repositories_picture(ecosystem))


def repositories_picture(ecosystem: Ecosystem) -> Picture:
    """Return the picture; the state of a repository is that of its todos and dependencies."""
    names = [repo.name for repo in ecosystem.repos]
    dependencies = [
        dependency
        for dependency in ecosystem.coordination.dependencies
        if {dependency.consumer, dependency.provider} <= {*names}
        and dependency.consumer != dependency.provider
    ]
    providers: dict[str, list[str]] = {}
    for dependency in dependencies:
        providers.setdefault(dependency.consumer, []).append(dependency.provider)
    joined = {name for dependency in dependencies for name in (dependency.consumer, dependency.provider)}
    levels = _levels({name: {*providers.get(name, ())} for name in names if name in joined})
    depth = {name: i for i, level in enumerate(levels) for name in level}
    todos: dict[str, list[TodoStatus]] = {}
    for todo in ecosystem.coordination.todos:
        todos.setdefault(todo.repo, []).append(todo.status)
    return Picture(
        title="Repositories",
        subtitle=f"{counted(len(names), 'repository')}, {counted(len(dependencies), 'dependency')}",
        boxes={name: _repository_box(name, dependencies, todos.get(name, ())) for name in names},
        levels=levels,
        predecessors={
            name: sorted(other for other in {*others} if depth[other] < depth[name])
            for name, others in providers.items()
        },
        critical=(),
        apart=[name for name in names if name not in joined],
        apart_words="without dependencies",
    )


def _levels(needs: Mapping[str, Collection[str]]) -> Sequence[Sequence[str]]:
    unplaced, levels = {name: {*others} for name, others in needs.items()}, []
    while unplaced:
        ready = sorted(name for name, others in unplaced.items() if not others & unplaced.keys())
        level = ready or [min(unplaced)]
        levels.append(level)
        for name in level:
            del unplaced[name]
    return levels


def _repository_box(name: str, dependencies: Collection[Dependency], todos: Collection[TodoStatus]) -> Box:
    unsatisfied = [
        dependency.provider
        for dependency in dependencies
        if dependency.consumer == name and dependency.status is DependencyStatus.UNSATISFIED
    ]
    open_ = [status for status in todos if status in (TodoStatus.PENDING, *ACTIVE)]
    summary = f"{len(open_)} of {counted(len(todos), 'todo')} open" if todos else "no todo"
    if unsatisfied:
        state, summary = "blocked", f"lacks {', '.join(unsatisfied)}"
    elif any(status in ACTIVE for status in open_):
        state = next(status.value for status in ACTIVE if status in open_)
    else:
        state = "pending" if open_ or not todos else "completed"
    return Box(state=state, first=name, right="", second=summary, hover=f"{name}\n{summary}")
