"""Views of the todos of a run, from their facts, and of the waves of a landing, from its todos."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from redis import Redis

from coordination.backend.keys import RunKeys, split_member
from coordination.planner.remaining import Basis, Expected
from coordination.runs.not_committed import read
from coordination.runs.records import Descriptor, TodoState, WaitReason
from coordination.runs.run_kinds import is_landing
from coordination.runs.views.records import Source, TodoView, WaveFailure, WaveState, WaveView

UNDO = frozenset({TodoState.COMPENSATING, TodoState.COMPENSATED, TodoState.COMPENSATION_FAILED})


def iso(at_ms: str | int | None) -> str | None:
    """Return milliseconds since 1970 as ISO 8601 in UTC."""
    return (
        None
        if at_ms is None
        else datetime.fromtimestamp(int(at_ms) / 1000, UTC).isoformat(timespec="milliseconds")
    )


def seconds(start_ms: str | None, end_ms: str | int | None) -> float | None:
    return None if start_ms is None or end_ms is None else round((int(end_ms) - int(start_ms)) / 1000, 3)


def facts_of(todo: str, facts: Mapping[str, str]) -> dict[str, str]:
    """Return the facts of one todo by name. `facts`: those of a run, by `<todo> <fact>`."""
    named = ((fact, facts.get(f"{todo} {fact}")) for fact in FACTS)
    return {fact: value for fact, value in named if value is not None}


def view_of_todo(
    name: str,
    state: TodoState,
    descriptor: Descriptor,
    facts: Mapping[str, str],
    output: str | None,
    obstacles: Mapping[str, str] = MappingProxyType({}),
    now_ms: int | None = None,
) -> TodoView:
    """Return a todo as it is shown. `facts`: fact → value."""
    # a compensation goes through the states of a todo
    shown = TodoState.COMPENSATING if facts.get("undo") and not state.ended else state
    undone = shown in UNDO
    last = "undo_" if undone and shown is not TodoState.COMPENSATED and facts.get("undo_error") else ""
    exit_code = facts.get(f"{last}exit_code")
    finished_at = facts.get("finished_at") if state.ended or undone else None
    waits_for, wait_reason = _wait(state, facts, descriptor.repo, obstacles)
    end = now_ms if shown is TodoState.RUNNING else finished_at
    return TodoView(
        id=name,
        repo=descriptor.repo,
        level=descriptor.level,
        state=shown,
        attempt=int(facts.get("attempt") or 0),
        worker=facts.get("worker"),
        started_at=iso(facts.get("started_at")),
        finished_at=iso(finished_at),
        duration_s=seconds(facts.get("started_at"), end),
        exit_code=None if exit_code is None else int(exit_code),
        error=facts.get(f"{last}error"),
        run=facts.get("run"),
        cached=_source(facts.get("cached")),
        was=TodoState(facts.get("was") or state) if undone else None,
        undo_s=seconds(facts.get("undo_started_at"), facts.get("undo_finished_at"))
        if undone and state.ended
        else None,
        approved_by=facts.get("approved_by"),
        comment=facts.get("comment"),
        accepted=facts.get("accepted"),
        accepted_by=facts.get("accepted_by"),
        waits_for=waits_for,
        wait_reason=wait_reason,
        since=iso(facts.get("since")),
        not_committed=read(facts.get("not_committed")),
        output=_parsed(output),
    )


def _wait(
    state: TodoState, facts: Mapping[str, str], repo: str, obstacles: Mapping[str, str]
) -> tuple[str | None, WaitReason | None]:
    """Return the text and the reason of a todo's wait, both None if it does not wait.

    A todo that is shown in an earlier state may have been parked since: the facts are those of that wait.
    """
    if state is not TodoState.RUNNING and (text := facts.get("waits_for")):
        return text, WaitReason(facts.get("wait_reason") or "")
    if state is TodoState.DISPATCHED:
        return (
            (obstacles[repo], WaitReason.WORKER) if repo in obstacles else ("a free worker", WaitReason.SLOT)
        )
    lost = obstacles.get(facts.get("worker") or "") if state is TodoState.RUNNING else None
    return lost, WaitReason.WORKER if lost else None


def _source(cached: str | None) -> Source | None:
    if cached is None:
        return None
    run, todo = split_member(cached)
    return Source(run=run, todo=todo)


def _parsed(output: str | None) -> Any:
    return None if output is None else json.loads(output)


IN_HAND = frozenset({TodoState.DISPATCHED, TodoState.RUNNING, TodoState.PARKED})
TODOS_AT_ONCE = 1000
"""Number of todos per reply of Redis."""
FACTS_OF_UNDOING = (
    "undo", "was", "undo_started_at", "undo_finished_at", "undo_error", "undo_exit_code", "accepted",
    "accepted_by",
)  # fmt: skip
FACTS = (
    "attempt", "worker", "started_at", "finished_at", "exit_code", "error", "waits_for", "wait_reason",
    "since", "run", "cached", "not_committed",
    "approved_by", "comment", *FACTS_OF_UNDOING,
)  # fmt: skip
"""The facts of a todo that views show; backend/key_table.py lists their keys."""

RawRecords = Sequence[Mapping[str, str]]
"""States, places, facts (by `<todo> <fact>`) and outputs."""


def raw_records(redis: Redis, keys: RunKeys) -> RawRecords:
    with redis.pipeline(transaction=False) as pipeline:
        for key in (keys.state, keys.descriptor, keys.facts, keys.output):
            pipeline.hgetall(key)
        found: RawRecords = pipeline.execute()
    return found


def raw_records_of(redis: Redis, keys: RunKeys, todos: Iterable[str]) -> RawRecords:
    """Return the records of these todos, without outputs."""
    names = list(todos)
    fields_of = {
        keys.state: names,
        keys.descriptor: names,
        keys.facts: [f"{todo} {fact}" for todo in names for fact in FACTS],
    }
    with redis.pipeline(transaction=False) as pipeline:
        for key, fields in fields_of.items():
            pipeline.hmget(key, fields)
        answers = pipeline.execute()
    return [*(_present(*pair) for pair in zip(fields_of.values(), answers, strict=True)), {}]


def _present(fields: Iterable[str], values: Iterable[str | None]) -> Mapping[str, str]:
    return {field: value for field, value in zip(fields, values, strict=True) if value is not None}


def in_hand(redis: Redis, keys: RunKeys) -> set[str]:
    """Return the todos that a worker executes or that wait for something; all states are read, in pieces."""
    return {todo for todo, state in redis.hscan_iter(keys.state, count=TODOS_AT_ONCE) if state in IN_HAND}


_OF_WAVE = re.compile(r"\.wave-(\d+)\.(.+)$")
KNOWN = (Basis.ESTIMATED, Basis.LEARNED)
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
    if any(one in _BAD for one in states) or TodoState.SUCCEEDED in lands.values():
        return WaveState.FAILED
    return WaveState.SKIPPED


def _only(states: Iterable[TodoState], *known: TodoState) -> bool:
    return all(one in known for one in states)
