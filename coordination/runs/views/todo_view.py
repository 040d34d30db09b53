"""Views of the todos of a run, from their facts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from redis import Redis

from coordination.backend.keys import RunKeys, split_member
from coordination.runs.not_committed import read
from coordination.runs.records import AgentUsage, Descriptor, TodoState, WaitReason
from coordination.runs.views.records import Source, TodoView

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
        usage=AgentUsage.read(facts.get("usage")),
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
"""States of a todo that a worker executes or that waits for something; it may be a compensation."""
BEGUN = IN_HAND | {TodoState.RETRYING, TodoState.COMPENSATING}
"""States in which a todo is shown that has begun, or that waits for something."""
TODOS_AT_ONCE = 1000
"""Number of todos per reply of Redis."""
FACTS_OF_UNDOING = (
    "undo", "was", "undo_started_at", "undo_finished_at", "undo_error", "undo_exit_code", "accepted",
    "accepted_by",
)  # fmt: skip
FACTS = (
    "attempt", "worker", "started_at", "finished_at", "exit_code", "error", "waits_for", "wait_reason",
    "since", "run", "cached", "not_committed", "usage",
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
