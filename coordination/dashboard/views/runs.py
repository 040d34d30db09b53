"""The pages of runs: the list, one run with its graph and its todos, one todo with its log and output."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from coordination.api import (
    RepoDiff,
    RunStatus,
    RunView,
    TodoState,
    TodoView,
    levels_of,
    start_again,
)
from coordination.api.coord import Coord
from coordination.dashboard.logs import Log, Part, added, log_of, shown
from coordination.dashboard.pages import DRAWN, Download, Page, PageRequest, inline
from coordination.dashboard.snapshots import Seen
from coordination.dashboard.views.changes import DIFF_S, DIFF_SHOWN
from coordination.dashboard.views.now import CAUSES, tails_of
from coordination.errors import GitRefused, NotFound, UsageError
from coordination.states import mark_of

LISTED = 50
ROWS = 200
"""Number of todos on a page."""
OUTPUT_SHOWN = 20_000
UNDONE = (TodoState.COMPENSATING, TodoState.COMPENSATED, TodoState.COMPENSATION_FAILED)
"""States of a todo whose last attempt undoes it: the attempt before has the cause."""
FORMER_ATTEMPTS_S = 60.0
"""Seconds for which pages keep the results of the attempts before the last one, which do not change."""
STATES = tuple(TodoState)
OPEN_FIRST = {
    state: n
    for n, state in enumerate(
        (
            *(TodoState.FAILED, TodoState.COMPENSATION_FAILED, TodoState.PARKED, TodoState.RETRYING),
            *(TodoState.RUNNING, TodoState.COMPENSATING, TodoState.DISPATCHED, TodoState.READY),
            *(TodoState.WAITING, TodoState.CANCELLED, TodoState.SKIPPED, TodoState.COMPENSATED),
            TodoState.SUCCEEDED,
        )
    )
}


async def runs(request: PageRequest) -> Page:
    """List the newest runs, by plan and status."""
    plan, status, automatic = request.get("plan"), request.get("status"), request.get("all") == "yes"
    found = await request.read(
        ("runs", plan, status, automatic),
        lambda coord: coord.runs.list(
            limit=LISTED, plan=plan or None, status=status or None, automatic=automatic
        ),
    )
    plans = await request.read("plans", _plans, live=False)
    return Page(
        template="runs.html",
        title="Runs",
        data={
            "runs": found.value,
            "plans": plans.value,
            "statuses": [status.value for status in RunStatus if status is not RunStatus.DRAFT],
            "plan": plan,
            "status": status,
            "automatic": automatic,
        },
        seen=(found,),
    )


def _plans(coord: Coord) -> Sequence[str]:
    return [plan.id for plan in coord.document.ecosystem.coordination.plans]


@dataclass(frozen=True, kw_only=True)
class _Run:
    view: RunView
    title: str
    """The title of the run's plan."""
    tasks: Mapping[str, str]


def _read(coord: Coord, run_id: str) -> _Run:
    run = coord.runs.get(run_id)
    view = run.signed_view()
    file = coord.document.ecosystem.coordination
    declared = {todo.id: todo.task for todo in file.todos}
    tasks = {todo.id: declared[todo.id] for todo in view.todos if todo.id in declared}
    title = next((plan.title for plan in file.plans if plan.id == view.plan_id), "")
    return _Run(view=view, title=title, tasks=tasks)


async def _run(request: PageRequest, run_id: str) -> Seen[_Run]:
    if not run_id:
        raise UsageError("no run is named", "list them: coord list-runs")
    return await request.read(("run", run_id), lambda coord: _read(coord, run_id))


async def run(request: PageRequest) -> Page:
    """Show a run: its progress, its waits, its graph, and its todos page by page."""
    found = await _run(request, request.get("run") or "last")
    view = found.value.view
    state, query = request.get("state"), request.get("q").lower()
    chosen = [todo for todo in view.todos if _fits(todo, found.value.tasks, state, query)]
    chosen.sort(key=lambda todo: (OPEN_FIRST[todo.state], todo.level, todo.id))
    start = min(request.number("from"), max(0, len(chosen) - 1)) // ROWS * ROWS
    failed = [one for one in view.todos if one.has_failed]
    tails = await request.read(
        ("tails", view.run_id, tuple((one.id, one.attempt) for one in failed[:CAUSES])),
        lambda coord: tails_of(coord, view.run_id, failed),
        fresh_s=60,
    )
    drawn = None
    if len(view.todos) <= DRAWN:
        drawn = await request.read(("graph", view.run_id), lambda coord: _graph(coord, found.value))
    return Page(
        template="run.html",
        title=f"{view.plan_id} · run {view.run_id}",
        state=_state_of(view),
        data={
            "run": view,
            "plan_title": found.value.title,
            "failed": failed,
            "tails": tails.value,
            "tasks": found.value.tasks,
            "todos": chosen[start : start + ROWS],
            "number": len(chosen),
            "start": start,
            "rows": ROWS,
            "states": [one.value for one in STATES if view.counts.get(one.value) or one.value == state],
            "state": state,
            "query": request.get("q"),
            "levels": () if drawn else levels_of(view),
            "graph": drawn.value if drawn else None,
            "again": start_again(view.plan_id),
        },
        seen=(found,) if drawn is None else (found, drawn),
    )


def _state_of(view: RunView) -> str:
    """Return `▶ 63 %` of a live run, `? 2` where it waits for a person, `✗ 2 failed` after failures."""
    parked = (one.wait_reason for one in view.todos if one.state is TodoState.PARKED)
    asking = sum(reason is not None and reason.asks_person for reason in parked)
    if asking:
        return f"? {asking}"
    failed = sum(one.has_failed for one in view.todos)
    if failed:
        return f"{mark_of(TodoState.FAILED)} {failed} failed"
    share = f" {int(view.progress.percent)} %" if view.progress and not view.status.ended else ""
    return f"{mark_of(view.status)}{share}"


def _fits(todo: TodoView, tasks: Mapping[str, str], state: str, query: str) -> bool:
    if state and todo.state != state and not (state == TodoState.FAILED and todo.has_failed):
        return False
    return not query or query in f"{todo.id} {todo.repo} {tasks.get(todo.id, '')}".lower()


def _graph(coord: Coord, known: _Run) -> Markup:
    return inline(coord.runs.get(known.view.run_id).picture(known.tasks))


async def gantt(request: PageRequest) -> Page:
    """Show when each todo of a run was executed and why it waited."""
    found = await _run(request, request.get("run"))
    drawn = await request.read(
        ("gantt", found.value.view.run_id),
        lambda coord: inline(coord.runs.get(found.value.view.run_id).gantt()),
    )
    return Page(
        template="gantt.html",
        title=f"Gantt · run {found.value.view.run_id}",
        data={"run": found.value.view, "chart": drawn.value},
        seen=(found, drawn),
    )


async def todo(request: PageRequest) -> Page:
    """Show a todo of a run: its state, decisions, output and log."""
    found = await _run(request, request.get("run"))
    view = found.value.view
    one = _todo(view, request.get("id"))
    log = await _log(request, view, one)
    diff, refused = await _diff(request, view, one)
    parts = shown(log.value, grows=not one.state.ended)
    former = await _former_attempts(request, view, one, parts)
    output = "" if one.output is None else json.dumps(one.output, indent=2, ensure_ascii=False, default=str)
    return Page(
        template="todo.html",
        title=f"{one.id} · run {view.run_id}",
        data={
            "run": view,
            "todo": one,
            "task": found.value.tasks.get(one.id, ""),
            "parts": parts,
            "opened": 2 if one.state in UNDONE else 1,
            "former": former,
            "left_out": parts[0].first - 1 if parts else 0,
            "error": next((part.error for part in reversed(parts) if part.error), 0),
            "next": None if one.state.ended else _next(view, one, log.value, parts[-1] if parts else None),
            "diff": diff,
            "refused": refused,
            "output": output[:OUTPUT_SHOWN],
            "output_cut": len(output) > OUTPUT_SHOWN,
        },
        seen=(found, log),
    )


def _todo(view: RunView, name: str) -> TodoView:
    if not name:
        raise UsageError("no todo is named", f"list them: coord show-run {view.run_id}")
    for todo in view.todos:
        if todo.id == name:
            return todo
    raise NotFound(f"run {view.run_id} has no todo {name!r:.100}", f"list them: coord show-run {view.run_id}")


async def _diff(request: PageRequest, view: RunView, one: TodoView) -> tuple[RepoDiff | None, str]:
    """Return the difference of a todo's own commit, or the reason why this machine cannot show it."""
    if one.state is not TodoState.SUCCEEDED:
        return None, ""

    def read(coord: Coord) -> RepoDiff | None:
        found = coord.runs.get(view.run_id).todo_diff(one, view.plan_id)
        return found and found.shortened(DIFF_SHOWN)

    try:
        return (await request.read(("diff", view.run_id, one.id), read, fresh_s=DIFF_S)).value, ""
    except GitRefused as error:
        return None, str(error)


async def log(request: PageRequest) -> Page:
    """Return the lines of a todo's log after a position; htmx adds them to the page. Where another attempt
    has begun, the page loads itself again.
    """
    found = await _run(request, request.get("run"))
    view = found.value.view
    one = _todo(view, request.get("id"))
    written = await _log(request, view, one)
    part = added(
        written.value,
        written.value.offset(request.get("from")),
        request.number("line", 1),
        grows=not one.state.ended,
        error=request.number("error"),
    )
    ended = one.state.ended and part.end == len(written.value.text)
    return Page(
        template="log.html",
        title="",
        data={"todo": one, "part": part, "next": None if ended else _next(view, one, written.value, part)},
        live=False,
        reload=part.attempt not in (0, request.number("attempt", part.attempt)),
    )


@dataclass(frozen=True, kw_only=True)
class _Next:
    """The request of an open page for the lines that follow those that it shows."""

    query: Mapping[str, object]
    at_once: bool
    """True if there are such lines already."""


def _next(view: RunView, todo: TodoView, log: Log, part: Part | None) -> _Next:
    query: dict[str, object] = {"run": view.run_id, "id": todo.id}
    if part is None:
        return _Next(query=query, at_once=False)
    query |= {"from": log.position(part.end), "line": part.number, "attempt": part.attempt}
    return _Next(query={**query, "error": part.error}, at_once=not part.begun and part.end < len(log.text))


async def _former_attempts(
    request: PageRequest, view: RunView, todo: TodoView, parts: Sequence[Part]
) -> Mapping[int, tuple[str, float]]:
    """Return attempt → its state and its duration in seconds, of the attempts before the last one."""
    if len(parts) < 2:
        return {}
    found = await request.read(
        ("attempts", view.run_id, todo.id, todo.attempt),
        lambda coord: coord.runs.get(view.run_id).attempts(todo.id),
        fresh_s=FORMER_ATTEMPTS_S,
    )
    return {
        one.attempt: (
            TodoState.FAILED if one.outcome == TodoState.RETRYING else one.outcome,
            (one.end_ms - one.start_ms) / 1000,
        )
        for one in found.value
    }


async def raw(request: PageRequest) -> Download:
    """Return the whole log of a todo."""
    found = await _run(request, request.get("run"))
    view = found.value.view
    one = _todo(view, request.get("id"))
    written = await _log(request, view, one)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{view.run_id}-{one.id}").strip(".-")
    return Download(name=f"{name[:100]}.log", text=written.value.raw)


async def _log(request: PageRequest, view: RunView, todo: TodoView) -> Seen[Log]:
    """Return the log of a todo. A log is complete before its todo ends: the log of an ended todo is never
    one that was read, and kept for other pages, before that.
    """
    return await request.read(
        ("log", view.run_id, todo.id, todo.state.ended),
        lambda coord: log_of(coord.runs.get(view.run_id).log_pieces(todo.id)),
    )
