"""Make the view of one todo from its facts: its state as views show it, its times, and the reason of its
wait. Read the fields of todos from Redis: of all, or of some at a cost that does not depend on the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from redis import Redis

from coordination.backend.keys import RunKeys, split_member
from coordination.runs.records import Descriptor, Source, TodoState, TodoView, WaitReason
from coordination.runs.run_kinds import SERVICE, TOOK_S

LONGEST_S = 86_400.0
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


class Facts:
    """The facts of one todo."""

    def __init__(self, todo: str, facts: Mapping[str, str]) -> None:
        self._todo = todo
        self._facts = facts

    def shown(self, state: TodoState) -> TodoState:
        """Return the state as views show it: a compensation goes through the states of a todo."""
        return TodoState.COMPENSATING if self["undo"] and not state.ended else state

    def __getitem__(self, name: str) -> str | None:
        return self._facts.get(f"{self._todo} {name}")


def view_of_todo(
    name: str,
    state: TodoState,
    descriptor: Descriptor,
    facts: Facts,
    output: str | None,
    obstacles: Mapping[str, str] = MappingProxyType({}),
    now_ms: int | None = None,
) -> TodoView:
    shown = facts.shown(state)
    undone = shown in UNDO
    last = "undo_" if undone and shown is not TodoState.COMPENSATED and facts["undo_error"] else ""
    exit_code = facts[f"{last}exit_code"]
    finished_at = facts["finished_at"] if state.ended or undone else None
    waits_for, wait_reason = _wait(state, facts, descriptor.repo, obstacles)
    parsed = _parsed(output)
    return TodoView(
        id=name,
        repo=descriptor.repo,
        level=descriptor.level,
        state=shown,
        attempt=int(facts["attempt"] or 0),
        worker=facts["worker"],
        started_at=iso(facts["started_at"]),
        finished_at=iso(finished_at),
        duration_s=_took_s(name, parsed)
        or seconds(facts["started_at"], now_ms if shown is TodoState.RUNNING else finished_at),
        exit_code=None if exit_code is None else int(exit_code),
        error=facts[f"{last}error"],
        run=facts["run"],
        cached=_source(facts["cached"]),
        was=TodoState(facts["was"] or state) if undone else None,
        undo_s=seconds(facts["undo_started_at"], facts["undo_finished_at"])
        if undone and state.ended
        else None,
        approved_by=facts["approved_by"],
        comment=facts["comment"],
        accepted=facts["accepted"],
        accepted_by=facts["accepted_by"],
        waits_for=waits_for,
        wait_reason=wait_reason,
        since=iso(facts["since"]),
        output=parsed,
    )


def _wait(
    state: TodoState, facts: Facts, repo: str, obstacles: Mapping[str, str]
) -> tuple[str | None, WaitReason | None]:
    """Return the text and the reason of a todo's wait, both None if it does not wait."""
    if text := facts["waits_for"]:
        return text, WaitReason(facts["wait_reason"] or "")
    if state is TodoState.DISPATCHED:
        return (
            (obstacles[repo], WaitReason.WORKER)
            if repo in obstacles
            else ("a worker that is free", WaitReason.SLOT)
        )
    lost = obstacles.get(facts["worker"] or "") if state is TodoState.RUNNING else None
    return lost, WaitReason.WORKER if lost else None


def _took_s(name: str, output: Any) -> float | None:
    """Return the time that a service took from its order until it was up: its todo is parked meanwhile, so
    its last attempt is short.
    """
    found = output.get(TOOK_S) if name.startswith(f"{SERVICE}.") and isinstance(output, dict) else None
    return found if isinstance(found, float) and 0 < found < LONGEST_S else None


def _source(cached: str | None) -> Source | None:
    if cached is None:
        return None
    run, todo = split_member(cached)
    return Source(run=run, todo=todo)


def _parsed(output: str | None) -> Any:
    return None if output is None else json.loads(output)


IN_HAND = frozenset({TodoState.DISPATCHED, TodoState.RUNNING, TodoState.PARKED})
LOOKED_AT = 1000
"""Number of todos per reply of Redis."""
FACTS_OF_UNDOING = (
    "undo", "was", "undo_started_at", "undo_finished_at", "undo_error", "undo_exit_code", "accepted",
    "accepted_by",
)  # fmt: skip
FACTS = (
    "attempt", "worker", "started_at", "finished_at", "exit_code", "error", "waits_for", "wait_reason",
    "since", "run", "cached",
    "approved_by", "comment", *FACTS_OF_UNDOING,
)  # fmt: skip
"""The facts of a todo that views show; backend/key_table.py says where they are stored."""

RawRecords = Sequence[Mapping[str, str]]
"""States, places, facts (by `<todo> <fact>`) and outputs."""


def raw_records(redis: Redis, keys: RunKeys) -> RawRecords:
    with redis.pipeline(transaction=False) as pipeline:
        for key in (keys.state, keys.place, keys.facts, keys.output):
            pipeline.hgetall(key)
        found: RawRecords = pipeline.execute()
    return found


def raw_records_of(redis: Redis, keys: RunKeys, todos: Iterable[str]) -> RawRecords:
    """Return the records of these todos, without outputs."""
    names = list(todos)
    asked = {
        keys.state: names,
        keys.place: names,
        keys.facts: [f"{todo} {fact}" for todo in names for fact in FACTS],
    }
    with redis.pipeline(transaction=False) as pipeline:
        for key, fields in asked.items():
            pipeline.hmget(key, fields)
        answers = pipeline.execute()
    return [*(_there(*pair) for pair in zip(asked.values(), answers, strict=True)), {}]


def _there(fields: Iterable[str], values: Iterable[str | None]) -> Mapping[str, str]:
    return {field: value for field, value in zip(fields, values, strict=True) if value is not None}


def in_hand(redis: Redis, keys: RunKeys) -> set[str]:
    """Return the todos that a worker has or that wait for something; reads all states, in pieces."""
    return {todo for todo, state in redis.hscan_iter(keys.state, count=LOOKED_AT) if state in IN_HAND}
