"""Read the fields of a run's todos from Redis: of all todos, or of some at a cost that does not depend on the
others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from redis import Redis

from coordination.backend.keys import RunKeys
from coordination.runs.records import TodoState

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
