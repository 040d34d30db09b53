"""Draw the Gantt chart of a run: a band per repository with the attempts of its todos in a row, and their
waits below. Pure.

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
from coordination.errors import NotFound
from coordination.planner.gates import MILESTONE_REPO
from coordination.runs.records import RunBrief, TodoState, WaitReason
from coordination.runs.views.records import RunView, TodoView
from coordination.runs.views.run_events import RunEvent
from coordination.runs.views.timeline import (
    Timeline,
    Wait,
    Work,
    timeline,
    timeline_critical_path,
)
from coordination.states import WAITED_FOR, Tone, tone_of, words_of
from coordination.text import counted

MOST_TICKS = 12
TICKS_S = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 14_400, 43_200, 86_400),
)  # fmt: skip


LEFT, RIGHT, PLOT = 190, 32, 1100
HEAD, AXIS, LEGEND = 70, 26, 62
BAR, STRIP, PAD = 20, 4, 6
SHORTEST_LABEL = 6
"""Least number of characters of a label: a shorter one is not drawn."""
IN_A_LINE = 4
"""Number of causes that fit into one line of the legend."""
LANES = 60
"""Greatest number of waiting todos drawn per repository; further ones count in the sums only."""
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
    WaitReason.BUDGET: "#a16207",
    WaitReason.LIMIT: "#ca8a04",
}
BEGUN_AGAIN = {
    TodoState.RETRYING.value: "failed",
    TodoState.READY.value: "failed",
    TodoState.DISPATCHED.value: "failed",
    TodoState.PARKED.value: "parked",
}
"""State of a todo after an attempt that was not its last → outcome of the attempt."""


def gantt_svg(run: RunView, brief: RunBrief, events: Sequence[RunEvent], now_ms: int) -> str:
    """Return the Gantt chart of a run as an SVG file. Raise NotFound where Redis has no event of it."""
    repo_of = {todo.id: todo.repo for todo in run.todos}
    line = timeline(events, repo_of, now_ms)
    if line is None:
        raise NotFound(
            f"run {run.run_id} has no events to draw", f"see its todos: coord show-run {run.run_id}"
        )
    return _draw(run, line, timeline_critical_path(line, brief.predecessors, repo_of))


@dataclass(frozen=True, kw_only=True)
class _Band:
    repo: str
    work: Sequence[Work]
    lanes: Sequence[Sequence[Wait]]
    top: float
    height: float


def _draw(run: RunView, line: Timeline, critical_path: Collection[Work]) -> str:
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
        *_axis(x, line.start_ms, line.end_ms, HEAD + AXIS, bottom),
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
    in_all = _took((line.end_ms - line.start_ms) / 1000)
    state = (
        f"{words_of(run.status)} by {run.strategy} in {in_all}"
        if run.status.ended
        else f"{words_of(run.status)} by {run.strategy} for {in_all}"
    )
    text = f"{counted(len(run.todos), 'todo')} · {state} · began {began}"
    return text if line.whole else f"{text} · earlier events are deleted"


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
        class_=f"{_tone(work, todo)} path" if bold else _tone(work, todo),
    )  # fmt: skip
    name = _name(work)
    label = svg.fitted(name, width - 6, 10)
    drawn = (
        [svg.text(label, left + 4, top + 14, "in xs")] if label == name or len(label) > SHORTEST_LABEL else []
    )
    return svg.element("g", svg.hover(_of_work(work, todo, name)), frame, *drawn)


def _tone(work: Work, todo: TodoView | None) -> Tone:
    if work.undo:
        return Tone.BAD if work.outcome == TodoState.COMPENSATION_FAILED else Tone.BACK
    return tone_of(_ending(work, todo))


def _ending(work: Work, todo: TodoView | None) -> str:
    """Return a state of todos, `cached` or `lost`. An attempt after which its todo is not over has not
    succeeded.
    """
    if todo is not None and todo.cached and work.outcome == TodoState.SUCCEEDED:
        return "cached"
    return BEGUN_AGAIN.get(work.outcome, work.outcome)


def _of_work(work: Work, todo: TodoView | None, name: str) -> str:
    outcome = words_of(_ending(work, todo)) + (", restarted" if work.outcome in BEGUN_AGAIN else "")
    lines = [name, f"{outcome} · {_took((work.end_ms - work.start_ms) / 1000)}"]
    if todo is not None and todo.worker and work.attempt == todo.attempt:
        lines.append(f"by {todo.worker}")
    if todo is not None and todo.error and work.attempt == todo.attempt:
        lines.append(todo.error)
    return "\n".join(lines)


def _strip(wait: Wait, band: _Band, lane: int, x: Callable[[float], float]) -> str:
    left, top = x(wait.start_ms), band.top + PAD + (BAR + 3 if band.work else 4) + lane * (STRIP + 1)
    width = max(1.0, x(wait.end_ms) - left)
    hover = (
        f"{wait.todo} waited {_took((wait.end_ms - wait.start_ms) / 1000)} for "
        f"{wait.waits_for or WAITED_FOR[wait.reason]}"
    )
    return svg.element(
        "rect", svg.hover(hover), x=left, y=top, width=width, height=STRIP, fill=COLOURS[wait.reason]
    )


def _legend(
    line: Timeline, bands: Sequence[_Band], todos: Mapping[str, TodoView], path: bool, y: float
) -> Iterator[str]:
    x = float(PAD * 4)
    for state, tone in _states(bands, todos):
        yield svg.element("rect", x=x, y=y - 10, width=16, height=12, rx=2, class_=tone)
        yield svg.text(state, x + 22, y, "s out")
        x += 22 + svg.width_of(state, 11) + 20
    if path:
        yield svg.element("rect", x=x, y=y - 10, width=16, height=12, rx=2, fill="none", class_="path")
        yield svg.text("critical path", x + 22, y, "s out")
    x, y = float(PAD * 4), y + 22
    for reason, waited_s in line.waited_s().items():
        label = f"waited for {WAITED_FOR[reason]}: {_took(waited_s)} in all"
        if x + 22 + svg.width_of(label, 11) > LEFT + PLOT + RIGHT:
            x, y = float(PAD * 4), y + 18
        yield svg.element("rect", x=x, y=y - 6, width=16, height=STRIP, fill=COLOURS[reason])
        yield svg.text(label, x + 22, y, "s out")
        x += 22 + svg.width_of(label, 11) + 20


def _states(bands: Iterable[_Band], todos: Mapping[str, TodoView]) -> Iterator[tuple[str, Tone]]:
    found: dict[str, Tone] = {}
    for work in (work for band in bands for work in band.work):
        todo = todos.get(work.todo)
        state = "undone" if work.undo else _ending(work, todo)
        found.setdefault(state, _tone(work, todo))
    return iter((words_of(state), tone) for state, tone in found.items())


def _name(work: Work) -> str:
    if work.undo:
        return f"undo {work.todo}"
    return f"{work.todo} (try {work.attempt})" if work.attempt > 1 else work.todo


def _axis(
    x: Callable[[float], float], start_ms: int, end_ms: int, top: float, bottom: float
) -> Iterator[str]:
    """Yield vertical lines from `top` to `bottom`, each with the time since the start above it."""
    step_s = _step((end_ms - start_ms) / 1000)
    for i in range(int((end_ms - start_ms) / 1000 / step_s) + 1):
        at = x(start_ms + i * step_s * 1000)
        yield svg.element("path", d=f"M{at:.1f},{top - 6:.1f} V{bottom:.1f}", class_="grid")
        yield svg.text(_took(i * step_s), at, top - 11, "xs faint", "middle")


def _step(span_s: float) -> float:
    step = next((tick for tick in TICKS_S if span_s / tick <= MOST_TICKS), TICKS_S[-1])
    while span_s / step > MOST_TICKS:
        step *= 2
    return step


def _took(seconds: float) -> str:
    """Return a duration as `0.25 s`, `12 s`, `1:05 min` or `2:30 h`."""
    if seconds < 100:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02} min" if minutes < 100 else f"{minutes // 60}:{minutes % 60:02} h"
