"""Draw the graph of a run with the states of its todos, and its Gantt chart: a band per repository with the
attempts of its todos in a row, and their waits below. Only reads.

Todos of one repository are executed one at a time, so their attempts fit in one row. Waiting for predecessors
is not drawn: a strip begins when only the cause of its colour delays the todo.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import heappop, heappush

from coordination.charts import svg
from coordination.charts.graph_picture import Box, Picture
from coordination.charts.graph_picture import draw as draw_graph
from coordination.errors import NotFound
from coordination.planner import paths
from coordination.planner.gates import MILESTONE_REPO
from coordination.runs.records import TodoState, WaitReason
from coordination.runs.store import RunStore
from coordination.runs.views.records import RunView, TodoView
from coordination.runs.views.run_view import RunReader
from coordination.runs.views.timeline import (
    Timeline,
    Wait,
    Work,
    all_events,
    timeline,
    timeline_critical_path,
)
from coordination.text import counted, format_hours

MOST_TICKS = 12
TICKS_S = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 14_400, 43_200, 86_400),
)  # fmt: skip


def axis(x: Callable[[float], float], start_ms: int, end_ms: int, top: float, bottom: float) -> Iterator[str]:
    """Yield vertical lines from `top` to `bottom`, each with the time since the start above it."""
    step_s = _step((end_ms - start_ms) / 1000)
    for i in range(int((end_ms - start_ms) / 1000 / step_s) + 1):
        at = x(start_ms + i * step_s * 1000)
        yield svg.element("path", d=f"M{at:.1f},{top - 6:.1f} V{bottom:.1f}", class_="grid")
        yield svg.text(took(i * step_s), at, top - 11, "xs faint", "middle")


def _step(span_s: float) -> float:
    step = next((tick for tick in TICKS_S if span_s / tick <= MOST_TICKS), TICKS_S[-1])
    while span_s / step > MOST_TICKS:
        step *= 2
    return step


def took(seconds: float) -> str:
    """Return a duration as `0.25 s`, `12 s`, `1:05 min` or `2:30 h`."""
    if seconds < 100:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02} min" if minutes < 100 else f"{minutes // 60}:{minutes % 60:02} h"


LEFT, RIGHT, PLOT = 190, 32, 1100
HEAD, AXIS, LEGEND = 70, 26, 62
BAR, STRIP, PAD = 20, 4, 6
SHORTEST_LABEL = 6
"""Least number of characters of a label: a shorter one is not drawn."""
IN_A_LINE = 4
"""Number of causes that fit into one line of the legend."""
LANES = 60
"""Greatest number of waiting todos drawn per repository; further ones count in the sums only."""
LABELS = {
    WaitReason.REPOSITORY: "its repository",
    WaitReason.SLOT: "a slot",
    WaitReason.RESOURCE: "a resource",
    WaitReason.TIMER: "the next attempt",
    WaitReason.PERSON: "a person",
    WaitReason.BREAKER: "a circuit breaker",
    WaitReason.PAUSED: "the paused run",
    WaitReason.WORKER: "a worker",
    WaitReason.TROUBLE: "its machine to recover",
    WaitReason.BASE: "its base branch",
    WaitReason.REQUEST: "its pull request",
    WaitReason.DISCONNECTED: "its repository to be connected",
    WaitReason.SERVICE: "its service to come up",
}
COLOURS = {
    WaitReason.REPOSITORY: "#94a3b8",
    WaitReason.SLOT: "#eab308",
    WaitReason.RESOURCE: "#f97316",
    WaitReason.TIMER: "#f472b6",
    WaitReason.PERSON: "#8b5cf6",
    WaitReason.BREAKER: "#dc2626",
    WaitReason.PAUSED: "#475569",
    WaitReason.WORKER: "#0ea5e9",
    WaitReason.TROUBLE: "#92400e",
    WaitReason.BASE: "#0891b2",
    WaitReason.REQUEST: "#7c3aed",
    WaitReason.DISCONNECTED: "#be123c",
    WaitReason.SERVICE: "#16a34a",
}
BEGUN_AGAIN = {
    TodoState.RETRYING.value: "failed",
    TodoState.READY.value: "failed",
    TodoState.DISPATCHED.value: "failed",
    TodoState.PARKED.value: "parked",
}
"""State of a todo after an attempt that was not its last → outcome of the attempt."""


@dataclass(frozen=True, kw_only=True)
class _Band:
    repo: str
    work: Sequence[Work]
    lanes: Sequence[Sequence[Wait]]
    top: float
    height: float


def draw_gantt(run: RunView, line: Timeline, critical_path: Collection[Work]) -> str:
    """Return a whole SVG file."""
    todos = {todo.id: todo for todo in run.todos}
    bands = list(_bands(line, {todo.id: todo.repo for todo in run.todos}))
    bottom = bands[-1].top + bands[-1].height if bands else HEAD + AXIS + BAR
    path = frozenset(critical_path)
    span_ms = max(1, line.end_ms - line.start_ms)

    def x(at_ms: float) -> float:
        return LEFT + (at_ms - line.start_ms) / span_ms * PLOT

    title = f"{run.plan_id}  run {run.run_id}"
    hosts = {repo: ", ".join(sorted(own)) for repo, own in _hosts(run.todos).items()}
    body = [
        svg.text(title, PAD * 4, 32, "h"),
        svg.text(_subtitle(run, line), PAD * 4, 54, "out"),
        *(element for i,
            band in enumerate(bands) for element in _ground(band, hosts.get(band.repo, ""),
            shaded=i % 2 == 0)),
        *axis(x, line.start_ms, line.end_ms, HEAD + AXIS, bottom),
        *(_bar(work, band, x, todos.get(work.todo),
            bold=work in path) for band in bands for work in band.work),
        *(_strip(wait, band, lane, x) for band in bands for lane,
            waits in enumerate(band.lanes) for wait in waits),
        *([] if bands else [svg.text("nothing has run", LEFT, HEAD + AXIS + 16, "out")]),
        *_legend(line, bands, todos, bool(critical_path), bottom + 28),
    ]  # fmt: skip
    second_line = 18 if len(line.waited_s()) > IN_A_LINE else 0
    return svg.document(LEFT + PLOT + RIGHT, bottom + LEGEND + second_line, title, body)


def _subtitle(run: RunView, line: Timeline) -> str:
    began = datetime.fromtimestamp(line.start_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    in_all = took((line.end_ms - line.start_ms) / 1000)
    state = (
        f"{run.status} by {run.strategy} in {in_all}"
        if run.status.ended
        else f"{run.status} by {run.strategy} for {in_all}"
    )
    words = f"{counted(len(run.todos), 'todo')} · {state.replace('_', ' ')} · began {began}"
    return words if line.whole else f"{words} · earlier events are deleted"


def _hosts(todos: Iterable[TodoView]) -> Mapping[str, set[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for todo in todos:
        if todo.started_at and todo.host:
            found[todo.repo].add(todo.host)
    return found


def _bands(line: Timeline, repo_of: Mapping[str, str]) -> Iterator[_Band]:
    """Yield the bands in the order in which they began."""
    work: defaultdict[str, list[Work]] = defaultdict(list)
    waits: defaultdict[str, list[Wait]] = defaultdict(list)
    for attempt in sorted(line.work, key=lambda attempt: attempt.start_ms):
        work[repo_of.get(attempt.todo, "")].append(attempt)
    for wait in sorted(line.waits, key=lambda wait: wait.start_ms):
        waits[repo_of.get(wait.todo, "")].append(wait)
    first = {
        repo: min(one[0].start_ms for one in (work[repo], waits[repo]) if one) for repo in {*work, *waits}
    }
    top = float(HEAD + AXIS)
    for repo in sorted(first, key=lambda repo: (first[repo], repo)):
        lanes = _lanes(waits[repo])[:LANES]
        height = PAD + (BAR if work[repo] or not lanes else 12) + len(lanes) * (STRIP + 1) + PAD
        yield _Band(repo=repo, work=work[repo], lanes=lanes, top=top, height=max(height, 2 * PAD + 26))
        top += max(height, 2 * PAD + 26)


def _lanes(waits: Sequence[Wait]) -> list[list[Wait]]:
    """Return the waits by lane. A todo keeps its lane from its first wait to its last; the next todo takes
    the lane that was free first.
    """
    own: dict[str, list[Wait]] = {}
    for wait in waits:
        own.setdefault(wait.todo, []).append(wait)
    lanes: list[list[Wait]] = []
    free: list[tuple[int, int]] = []  # time from which it is free, and its number
    for its in own.values():
        at = heappop(free)[1] if free and free[0][0] <= its[0].start_ms else len(lanes)
        if at == len(lanes):
            lanes.append([])
        lanes[at].extend(its)
        heappush(free, (its[-1].end_ms, at))
    return lanes


def _ground(band: _Band, host: str, *, shaded: bool) -> Iterator[str]:
    if shaded:
        yield svg.element(
            "rect", x=0, y=band.top, width=LEFT + PLOT + RIGHT, height=band.height, class_="band"
        )
    name = "approvals" if band.repo == MILESTONE_REPO else band.repo
    yield svg.text(svg.fitted(name, LEFT - 40, 12.6), PAD * 4, band.top + PAD + 14, "out b")
    if host:
        yield svg.text(svg.fitted(host, LEFT - 40, 10), PAD * 4, band.top + PAD + 27, "faint xs")


def _bar(work: Work, band: _Band, x: Callable[[float], float], todo: TodoView | None, *, bold: bool) -> str:
    left, width = x(work.start_ms), max(1.5, x(work.end_ms) - x(work.start_ms))
    top = band.top + PAD
    frame = svg.element(
        "rect", x=left, y=top, width=width, height=BAR, rx=min(3.0, width / 3),
        class_=f"{_class(work, todo)} path" if bold else _class(work, todo),
    )  # fmt: skip
    name = _name(work)
    label = svg.fitted(name, width - 6, 10)
    words = (
        [svg.text(label, left + 4, top + 14, "in xs")] if label == name or len(label) > SHORTEST_LABEL else []
    )
    return svg.element("g", svg.hover(_of_work(work, todo, name)), frame, *words)


def _class(work: Work, todo: TodoView | None) -> str:
    if work.undo:
        return "bad" if work.outcome == TodoState.COMPENSATION_FAILED else "back"
    return svg.CLASS_OF.get(_ending(work, todo), "bad")


def _ending(work: Work, todo: TodoView | None) -> str:
    """Return a state of todos, `cached` or `lost`. An attempt after which its todo is not over has not
    succeeded.
    """
    if todo is not None and todo.cached and work.outcome == TodoState.SUCCEEDED:
        return "cached"
    return BEGUN_AGAIN.get(work.outcome, work.outcome)


def _of_work(work: Work, todo: TodoView | None, name: str) -> str:
    outcome = _ending(work, todo).replace("_", " ") + (", restarted" if work.outcome in BEGUN_AGAIN else "")
    lines = [name, f"{outcome} · {took((work.end_ms - work.start_ms) / 1000)}"]
    if todo is not None and todo.worker and work.attempt == todo.attempt:
        lines.append(f"by {todo.worker}")
    if todo is not None and todo.error and work.attempt == todo.attempt:
        lines.append(todo.error)
    return "\n".join(lines)


def _strip(wait: Wait, band: _Band, lane: int, x: Callable[[float], float]) -> str:
    left, top = x(wait.start_ms), band.top + PAD + (BAR + 3 if band.work else 4) + lane * (STRIP + 1)
    width = max(1.0, x(wait.end_ms) - left)
    words = (
        f"{wait.todo} waited {took((wait.end_ms - wait.start_ms) / 1000)} for "
        f"{wait.words or LABELS[wait.reason]}"
    )
    return svg.element(
        "rect", svg.hover(words), x=left, y=top, width=width, height=STRIP, fill=COLOURS[wait.reason]
    )


def _legend(
    line: Timeline, bands: Sequence[_Band], todos: Mapping[str, TodoView], path: bool, y: float
) -> Iterator[str]:
    x = float(PAD * 4)
    for state, class_ in _states(bands, todos):
        yield svg.element("rect", x=x, y=y - 10, width=16, height=12, rx=2, class_=class_)
        yield svg.text(state, x + 22, y, "s out")
        x += 22 + svg.width_of(state, 11) + 20
    if path:
        yield svg.element("rect", x=x, y=y - 10, width=16, height=12, rx=2, fill="none", class_="path")
        yield svg.text("critical path", x + 22, y, "s out")
    x, y = float(PAD * 4), y + 22
    for reason, waited_s in line.waited_s().items():
        words = f"waited for {LABELS[reason]}: {took(waited_s)} in all"
        if x + 22 + svg.width_of(words, 11) > LEFT + PLOT + RIGHT:
            x, y = float(PAD * 4), y + 18
        yield svg.element("rect", x=x, y=y - 6, width=16, height=STRIP, fill=COLOURS[reason])
        yield svg.text(words, x + 22, y, "s out")
        x += 22 + svg.width_of(words, 11) + 20


def _states(bands: Iterable[_Band], todos: Mapping[str, TodoView]) -> Iterator[tuple[str, str]]:
    found: dict[str, str] = {}
    for work in (work for band in bands for work in band.work):
        todo = todos.get(work.todo)
        state = "undone" if work.undo else _ending(work, todo)
        found.setdefault(state, _class(work, todo))
    return iter((state.replace("_", " "), class_) for state, class_ in found.items())


def _name(work: Work) -> str:
    if work.undo:
        return f"undo {work.todo}"
    return f"{work.todo} (try {work.attempt})" if work.attempt > 1 else work.todo


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
        subtitle=_graph_subtitle(run),
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


def _graph_subtitle(run: RunView) -> str:
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
