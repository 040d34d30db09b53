"""Summaries of the todos of a run by level of its graph, and of a landing by wave. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from coordination.planner.remaining import Basis, Expected
from coordination.runs.records import TodoState
from coordination.runs.run_kinds import is_landing
from coordination.runs.views.records import LevelView, RunView, TodoView, WaveFailure, WaveState, WaveView

BY_PRECEDENCE = (
    TodoState.RUNNING, TodoState.COMPENSATING, TodoState.RETRYING, TodoState.PARKED, TodoState.DISPATCHED,
    TodoState.READY, TodoState.WAITING, TodoState.COMPENSATION_FAILED, TodoState.FAILED, TodoState.CANCELLED,
    TodoState.SKIPPED, TodoState.COMPENSATED, TodoState.SUCCEEDED,
)  # fmt: skip
"""All states. A level has the first one that occurs in it: that of an open todo, else the worst end."""
BAD_ENDS = (TodoState.FAILED, TodoState.CANCELLED, TodoState.COMPENSATION_FAILED)
OF_WAVE = re.compile(r"\.wave-(\d+)\.(.+)$")
KNOWN = (Basis.ESTIMATED, Basis.LEARNED)
"""The expected durations that a wave adds up: no assumed ones, and no soak."""


def levels_of(run: RunView) -> tuple[LevelView, ...]:
    """Return the levels of a run's graph, with its todos."""
    levels: dict[int, list[TodoView]] = {}
    for todo in run.todos:
        levels.setdefault(todo.level, []).append(todo)
    return tuple(_level(level, todos) for level, todos in sorted(levels.items()))


def _level(level: int, todos: Sequence[TodoView]) -> LevelView:
    counts = Counter(todo.state for todo in todos)
    return LevelView(
        level=level,
        state=next(state for state in BY_PRECEDENCE if counts[state]),
        counts={state: counts[state] for state in TodoState if counts[state]},
        todos=tuple(todo.id for todo in todos),
    )


def waves_of(
    plan_id: str, todos: Iterable[TodoView], expected: Mapping[str, str | None], *, ended: bool
) -> tuple[WaveView, ...]:
    """Return the waves of a landing run from its todos; empty for any other run. `expected`: todo → its
    expected duration as it is stored; `ended`: whether the run has ended.
    """
    if not is_landing(plan_id):
        return ()
    of: dict[int, list[tuple[str, TodoView]]] = {}
    for todo in todos:
        if found := OF_WAVE.search(todo.id):
            of.setdefault(int(found[1]), []).append((found[2], todo))
    return tuple(_wave(number, of[number], expected, ended=ended) for number in sorted(of))


def _wave(
    number: int,
    named: Iterable[tuple[str, TodoView]],
    expected: Mapping[str, str | None],
    *,
    ended: bool,
) -> WaveView:
    """Return one wave. `named`: its todos, each with the end of its id: `land.api`, `done`."""
    named = tuple(named)
    todos = tuple(todo for _, todo in named)
    lands = {todo.repo: todo.state for role, todo in named if role.startswith("land.")}
    checks = [todo.state for role, todo in named if role.startswith(("qa.", "after."))]
    is_done = ("done", TodoState.SUCCEEDED) in ((role, todo.state) for role, todo in named)
    state = WaveState.LANDED if is_done else _state(todos, lands)
    expectations = (Expected.parse(expected.get(todo.id)) for todo in todos)
    known_s = [
        expectation.seconds for expectation in expectations if expectation and expectation.source in KNOWN
    ]
    ends = [todo.finished_at for todo in todos if todo.finished_at]
    return WaveView(
        number=number,
        state=state,
        repos=lands,
        waits_for=next((todo.waits_for for todo in todos if todo.waits_for), None),
        started_at=min(filter(None, (todo.started_at for todo in todos)), default=None),
        finished_at=max(ends, default=None) if state not in (WaveState.WAITING, WaveState.RUNNING) else None,
        checks={one: checks.count(one) for one in dict.fromkeys(checks)},
        work_s=round(sum(todo.duration_s or 0.0 for todo in todos if todo.state.ended), 3),
        expected_s=round(sum(known_s), 3) if known_s else None,
        failures=tuple(WaveFailure(todo=todo.id, error=todo.error) for todo in todos if _failed(todo)),
        carried_over=tuple(repo for repo, at in lands.items() if at is not TodoState.SUCCEEDED)
        if ended
        else (),
        todos=tuple(todo.id for todo in todos),
    )


def _failed(todo: TodoView) -> bool:
    return TodoState.FAILED in (todo.state, todo.was) or todo.state is TodoState.COMPENSATION_FAILED


def _state(todos: Iterable[TodoView], lands: Mapping[str, TodoState]) -> WaveState:
    states = [todo.state for todo in todos]
    if not all(one.ended for one in states):
        return WaveState.WAITING if set(states) == {TodoState.WAITING} else WaveState.RUNNING
    if _only(lands.values(), TodoState.COMPENSATED, TodoState.SKIPPED) and TodoState.COMPENSATED in states:
        return WaveState.REVERTED
    if any(one in BAD_ENDS for one in states) or TodoState.SUCCEEDED in lands.values():
        return WaveState.FAILED
    return WaveState.SKIPPED


def _only(states: Iterable[TodoState], *known: TodoState) -> bool:
    return all(one in known for one in states)
