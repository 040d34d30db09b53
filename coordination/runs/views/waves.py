"""The waves of a landing run, from the states of its todos."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from coordination.planner.remaining import Expected, Source
from coordination.runs.records import TodoState, TodoView
from coordination.runs.run_kinds import is_landing
from coordination.runs.wave_records import WaveFailure, WaveState, WaveView

_OF_WAVE = re.compile(r"\.wave-(\d+)\.(.+)$")
KNOWN = (Source.ESTIMATED, Source.LEARNED)
_BAD = (TodoState.FAILED, TodoState.CANCELLED, TodoState.COMPENSATION_FAILED)


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
        if found := _OF_WAVE.search(todo.id):
            of.setdefault(int(found[1]), []).append((found[2], todo))
    return tuple(_wave(number, of[number], expected, ended=ended) for number in sorted(of))


def _wave(
    number: int,
    named: Iterable[tuple[str, TodoView]],
    expected: Mapping[str, str | None],
    *,
    ended: bool,
) -> WaveView:
    """`named`: its todos, each with its work: `land.api`, `done`."""
    named = tuple(named)
    todos = tuple(todo for _, todo in named)
    lands = {todo.repo: todo.state for what, todo in named if what.startswith("land.")}
    checks = [todo.state for what, todo in named if what.startswith(("qa.", "after."))]
    is_done = ("done", TodoState.SUCCEEDED) in ((what, todo.state) for what, todo in named)
    state = WaveState.LANDED if is_done else _state(todos, lands)
    guesses = (Expected.parse(expected.get(todo.id)) for todo in todos)
    known = [guess.seconds for guess in guesses if guess and guess.source in KNOWN]
    over = [todo.finished_at for todo in todos if todo.finished_at]
    return WaveView(
        number=number,
        state=state,
        repos=lands,
        waits_for=next((todo.waits_for for todo in todos if todo.waits_for), None),
        started_at=min(filter(None, (todo.started_at for todo in todos)), default=None),
        finished_at=max(over, default=None) if state not in (WaveState.WAITING, WaveState.RUNNING) else None,
        checks={one: checks.count(one) for one in dict.fromkeys(checks)},
        work_s=round(sum(todo.duration_s or 0.0 for todo in todos if todo.state.ended), 3),
        expected_s=round(sum(known), 3) if known else None,
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
    if any(one in _BAD for one in states) or TodoState.SUCCEEDED in lands.values():
        return WaveState.FAILED
    return WaveState.SKIPPED


def _only(states: Iterable[TodoState], *known: TodoState) -> bool:
    return all(one in known for one in states)
