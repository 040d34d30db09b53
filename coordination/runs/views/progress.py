"""Compute the progress of a live run, and what runs next, from its todos and counters. Pure.

`RunOutline` is the part of a run that never changes, so that a follower reads it once: for 50,000 todos it is
megabytes. The rules for percent and the expected end are in planner/remaining.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import nsmallest

from coordination.planner.gates import MILESTONE_REPO
from coordination.planner.remaining import (
    SIMULATED,
    Basis,
    Expected,
    OpenTodo,
    Pace,
    percent,
    rest_s,
)
from coordination.planner.schedule import Supply
from coordination.runs.records import Descriptor, RunStatus, TodoState, WaitReason
from coordination.runs.views.records import (
    NextTodo,
    NoEta,
    Progress,
    RunningTodo,
    RunView,
    TodoView,
    WaitingTodos,
)
from coordination.runs.views.todo_view import iso

SHOWN = 20
"""Largest number of items of each list."""
SHOWN_NEXT = 5
LONGEST_TEXT = 500
FOREVER = timedelta(days=36_500)
TURN = frozenset({WaitReason.REPOSITORY, WaitReason.SLOT, WaitReason.RESOURCE})
"""Waits that end when another todo ends."""
UNFORESEEABLE = {
    WaitReason.PERSON: NoEta.PERSON,
    WaitReason.BUDGET: NoEta.PERSON,
    WaitReason.WORKER: NoEta.WORKER,
    WaitReason.TROUBLE: NoEta.TROUBLE,
    WaitReason.BASE: NoEta.TROUBLE,
    WaitReason.REQUEST: NoEta.PERSON,
    WaitReason.DISCONNECTED: NoEta.PERSON,
}
"""Waits that no todo of the run ends."""
COUNTERS = (
    "expected_ms",
    "ended_ms",
    "intents",
    *(f"{name}.{source.letter}" for source in Basis for name in ("paced", "pace")),
)
"""Fields of `meta` that the steps count."""


@dataclass(frozen=True, kw_only=True)
class RunOutline:
    """The part of a run that never changes."""

    predecessors: Mapping[str, Collection[str]]
    """Todo → its predecessors; each key comes after its own predecessors."""
    descriptors: Mapping[str, Descriptor]
    expected: Mapping[str, Expected]
    asking: frozenset[str]
    """Todos that wait for a person before they begin, or that a person does."""
    soaks: frozenset[str]
    """Todos that wait for a time to pass."""
    supply: Supply
    repos: frozenset[str]
    slots: int
    """Greatest number of its todos that could run at once, with any number of workers."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The part of a run that changes, at one time."""

    run: RunView
    states: Mapping[str, TodoState]
    in_hand: Sequence[TodoView]
    """The todos that have begun, or that wait for something, and have not ended."""
    counters: Mapping[str, str]
    now_ms: int
    slots: int | None = None
    """Slots of the workers that are there; None: unknown."""


def ended(run: RunView) -> Progress:
    return Progress(at=run.finished_at, percent=100.0, no_eta=NoEta.ENDED, why_no_eta="the run has ended")


def only_percent(run: RunView, counters: Mapping[str, str], now_ms: int) -> Progress:
    """Return the progress of a run whose todos are not read."""
    return Progress(
        at=iso(now_ms),
        percent=_percent(run, counters, ()),
        no_eta=NoEta.LARGE,
        why_no_eta=f"the run is large: coord show-run {run.run_id}",
    )


def progress_of(outline: RunOutline, moment: Moment) -> Progress:
    """Return the progress of a live run."""
    run = moment.run
    todos = dict(_open(outline, moment))
    running = [todo for todo in todos.values() if todo.elapsed_s is not None]
    figures = Progress(
        at=iso(moment.now_ms),
        percent=_percent(run, moment.counters, running),
        running=tuple(_running(outline, moment)),
        waiting=tuple(_waiting(moment)),
    )
    if run.status is RunStatus.ROLLING_BACK:
        unknown = "nothing is known about the time that it takes to undo the todos"
        return figures.model_copy(update={"no_eta": NoEta.ROLLING_BACK, "why_no_eta": unknown})
    slots = min(outline.slots, moment.slots or outline.slots)
    left_s = rest_s(
        todos,
        outline.predecessors,
        slots=slots,
        by_level=run.strategy == "levels",
        pace=_pace(moment.counters),
        supply=outline.supply,
    )
    reason, why = _no_eta(run, moment.in_hand, left_s)
    return figures.model_copy(
        update={
            "left_s": None if left_s is None else round(left_s, 1),
            "at_least": left_s is not None and len(todos) > SIMULATED,
            "eta": None if reason or left_s is None else _after(moment.now_ms, left_s),
            "no_eta": reason,
            "why_no_eta": why,
            "approvals": sum(moment.states.get(todo) is TodoState.WAITING for todo in outline.asking),
            "next": tuple(_next(outline, moment, by_level=run.strategy == "levels")),
        }
    )


def _percent(run: RunView, counters: Mapping[str, str], running: Iterable[OpenTodo]) -> float:
    if run.status is RunStatus.ROLLING_BACK:
        undone = run.counts.get(TodoState.COMPENSATED, 0)
        left = _number(counters.get("intents")) if "intents" in counters else 1
        return percent(total_s=0, ended_s=0, todos=int(undone + left), ended=undone)
    return percent(
        total_s=_number(counters.get("expected_ms")) / 1000,
        ended_s=_number(counters.get("ended_ms")) / 1000,
        running=running,
        todos=sum(run.counts.values()),
        ended=sum(n for state, n in run.counts.items() if TodoState(state).ended),
    )


def _pace(counters: Mapping[str, str]) -> Pace:
    return Pace(
        todos={source: int(_number(counters.get(f"paced.{source.letter}"))) for source in Basis},
        logs={source: _number(counters.get(f"pace.{source.letter}")) for source in Basis},
    )


def _number(text: str | None) -> float:
    """Return the number; 0 if the text is none, because anybody may have written it to Redis."""
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def _open(outline: RunOutline, moment: Moment) -> Iterator[tuple[str, OpenTodo]]:
    elapsed = {todo.id: todo.duration_s for todo in moment.in_hand if todo.state is TodoState.RUNNING}
    for todo in moment.in_hand:
        if todo.id in outline.soaks and todo.state is TodoState.PARKED and todo.since:
            elapsed[todo.id] = moment.now_ms / 1000 - datetime.fromisoformat(todo.since).timestamp()
    unknown = Expected(seconds=0.0, source=Basis.UNKNOWN)
    for name, descriptor in outline.descriptors.items():
        if name in outline.predecessors and not moment.states.get(name, TodoState.SKIPPED).ended:
            takes_no_slot = descriptor.kind == "manual" or name in outline.soaks
            repo = MILESTONE_REPO if takes_no_slot else descriptor.repo
            yield (
                name,
                OpenTodo(
                    expected=outline.expected.get(name, unknown),
                    repo=repo,
                    level=descriptor.level,
                    order=_number(descriptor.order),
                    elapsed_s=(elapsed[name] or 0.0) if name in elapsed else None,
                ),
            )


def _running(outline: RunOutline, moment: Moment) -> Iterator[RunningTodo]:
    found = [t for t in moment.in_hand if t.state in (TodoState.RUNNING, TodoState.COMPENSATING) and t.worker]
    for todo in sorted(found, key=_since)[:SHOWN]:
        expected = outline.expected.get(todo.id)
        undone = todo.state is TodoState.COMPENSATING
        yield RunningTodo(
            id=todo.id,
            repo=todo.repo,
            worker=todo.worker,
            host=todo.host,
            attempt=todo.attempt,
            since=todo.since if undone else todo.started_at,
            running_s=None if undone else todo.duration_s,
            expected_s=expected.seconds if expected and not undone else None,
        )


def _waiting(moment: Moment) -> Iterator[WaitingTodos]:
    groups: dict[tuple[WaitReason, str], list[TodoView]] = {}
    for todo in moment.in_hand:
        if todo.waits_for and todo.wait_reason:
            groups.setdefault((todo.wait_reason, todo.waits_for[:LONGEST_TEXT]), []).append(todo)
    first = {key: min(todos, key=_since) for key, todos in groups.items()}
    for key in sorted(groups, key=lambda key: _since(first[key]))[:SHOWN]:
        todos = sorted(groups[key], key=_since)
        yield WaitingTodos(
            reason=key[0],
            waits_for=key[1],
            count=len(todos),
            todos=tuple(todo.id for todo in todos[:SHOWN]),
            since=first[key].since,
        )


def _next(outline: RunOutline, moment: Moment, *, by_level: bool) -> Iterator[NextTodo]:
    """Yield the todos that start when another todo ends: first those that wait only for their turn, then
    those whose open predecessors all run.
    """
    states, waits = moment.states, {todo.id: todo.wait_reason for todo in moment.in_hand}
    queued = [
        name
        for name, state in states.items()
        if name in outline.predecessors and (state is TodoState.READY or waits.get(name) in TURN)
    ]
    first = nsmallest(SHOWN_NEXT, queued, key=_urgency(outline))
    yield from (NextTodo(id=name, repo=outline.descriptors[name].repo) for name in first)
    following = _next_level(outline, states) if by_level else _after_running(outline, states)
    for name in nsmallest(SHOWN_NEXT - len(first), following, key=_urgency(outline)):
        yield NextTodo(
            id=name, repo=outline.descriptors[name].repo, after=tuple(following[name][:SHOWN_NEXT])
        )


def _urgency(outline: RunOutline) -> Callable[[str], tuple[float, str]]:
    return lambda name: (_number(outline.descriptors[name].order), name)


def _after_running(outline: RunOutline, states: Mapping[str, TodoState]) -> Mapping[str, Sequence[str]]:
    """Return the waiting todos whose open predecessors all run, each with these predecessors."""
    found: dict[str, Sequence[str]] = {}
    for name, before in outline.predecessors.items():
        if states.get(name) is TodoState.WAITING:
            open_ones = [other for other in before if states.get(other) is not TodoState.SUCCEEDED]
            if all(states.get(other) is TodoState.RUNNING for other in open_ones):
                found[name] = open_ones
    return found


def _next_level(outline: RunOutline, states: Mapping[str, TodoState]) -> Mapping[str, Sequence[str]]:
    """Return the waiting todos of the next level, with the todos of earlier levels that have not ended."""
    waiting = [name for name in outline.predecessors if states.get(name) is TodoState.WAITING]
    level = min((outline.descriptors[name].level for name in waiting), default=0)
    before = [
        name
        for name in outline.predecessors
        if name in states and not states[name].ended and outline.descriptors[name].level < level
    ]
    return {name: before for name in waiting if outline.descriptors[name].level == level}


def _no_eta(
    run: RunView, in_hand: Sequence[TodoView], left_s: float | None
) -> tuple[NoEta | None, str | None]:
    if run.internal_error:
        return NoEta.STUCK, f"internal error: {run.internal_error[:LONGEST_TEXT]}"
    if run.status is RunStatus.PAUSED:
        by = f" by {run.steered_by}" if run.steered_by else ""
        return NoEta.PAUSED, f"the run is paused{by}: coord run resume {run.run_id}"
    for wait, reason in UNFORESEEABLE.items():
        todos = [t for t in in_hand if t.wait_reason is wait and t.state is not TodoState.RUNNING]
        if todos:
            first, more = min(todos, key=_since), len(todos) - 1
            who = f"{first.id} and {more} more wait" if more else f"{first.id} waits"
            return reason, f"{who} for {(first.waits_for or '')[:LONGEST_TEXT]}"
    if left_s is None:
        return NoEta.UNKNOWN, "no todo has an estimate or was executed before, and none has ended yet"
    return None, None


def _since(todo: TodoView) -> str:
    return todo.since or todo.started_at or ""


def _after(now_ms: int, left_s: float) -> str:
    left = min(timedelta(seconds=max(left_s, 0.0)), FOREVER)
    return (datetime.fromtimestamp(now_ms / 1000, UTC) + left).isoformat(timespec="milliseconds")
