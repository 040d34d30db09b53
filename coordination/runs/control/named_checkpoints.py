"""Named checkpoints of a run: the todos that had succeeded when the checkpoint was created.

They are fields of the run's `meta`, so they are deleted with it, exported with it, and copied to its retries.
The step `restore` decides what a restore undoes, in the same transaction that begins it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from redis.client import Pipeline
from redis.exceptions import ResponseError

from coordination.declared import Column, Table
from coordination.errors import Conflict, NotFound, UsageError
from coordination.runs.records import RunStatus, TodoState
from coordination.runs.store import RunStore
from coordination.runs.views.todo_view import iso
from coordination.text import did_you_mean, listed

FIELD = "named."
"""Prefix of a checkpoint's name in `meta`."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
AT_MOST = 100
BACK = frozenset({RunStatus.ROLLING_BACK, RunStatus.ROLLED_BACK, RunStatus.ROLLBACK_FAILED})


@dataclass(frozen=True, kw_only=True)
class NamedCheckpoint:
    shown: ClassVar = Table(
        columns=(
            Column("NAME"),
            Column("AT", of=lambda one: one.at and datetime.fromisoformat(one.at)),
            Column("BY"),
            Column("SUCCEEDED", of=lambda one: len(one.succeeded)),
        ),
        none="the run has no checkpoint",
        next_step="create one: coord checkpoint create RUN NAME",
    )
    run_id: str
    name: str
    at: str | None
    by: str
    succeeded: tuple[str, ...]


def create(store: RunStore, run_id: str, name: str, actor: str) -> NamedCheckpoint:
    """Record the todos that have succeeded.

    Raise UsageError; NotFound; Conflict where the name is taken, or the run is undone.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a checkpoint", "letters, digits, dots, - and _, at most 100")
    keys = store.keys.run(run_id)
    with store.redis.pipeline(transaction=True) as pipeline:
        pipeline.hget(keys.meta, "status")
        pipeline.hgetall(keys.state)
        status, states = pipeline.execute()
    if status is None:
        raise NotFound(f"there is no run {run_id!r}", "list the runs: coord list-runs")
    if RunStatus(status) in BACK:
        raise Conflict(
            f"run {run_id} is {status}: it has no state to return to", f"look: coord show-run {run_id}"
        )
    if len(named(store, run_id)) >= AT_MOST:
        raise Conflict(
            f"run {run_id} has {AT_MOST} checkpoints", f"look at them: coord checkpoint list {run_id}"
        )
    succeeded = tuple(sorted(todo for todo, state in states.items() if state == TodoState.SUCCEEDED))
    at_ms = store.now_ms()
    record = json.dumps({"at_ms": at_ms, "by": actor, "succeeded": succeeded or []})
    if not store.redis.hsetnx(keys.meta, FIELD + name, record):
        raise Conflict(f"run {run_id} has a checkpoint {name} already", "take another name")
    return NamedCheckpoint(run_id=run_id, name=name, at=iso(at_ms), by=actor, succeeded=succeeded)


def named(store: RunStore, run_id: str) -> list[NamedCheckpoint]:
    """Return the checkpoints of a run, the oldest first."""
    meta = store.keys.run(run_id).meta
    fields = dict(store.redis.hscan_iter(meta, match=f"{FIELD}*", count=1000))
    found = [_read(run_id, field.removeprefix(FIELD), record) for field, record in fields.items()]
    return sorted(found, key=lambda one: (one.at or "", one.name))


def one_named(store: RunStore, run_id: str, name: str) -> NamedCheckpoint:
    """Return the checkpoint of this name. Raise NotFound."""
    record = store.redis.hget(store.keys.run(run_id).meta, FIELD + name)
    if record is None:
        names = [one.name for one in named(store, run_id)]
        hint = (
            f"its checkpoints: {listed(names)}"
            if names
            else f"make one: coord checkpoint create {run_id} NAME"
        )
        raise NotFound(f"run {run_id} has no checkpoint {name!r}{did_you_mean(name, names)}", hint)
    return _read(run_id, name, record)


def clear(store: RunStore, run_id: str) -> int:
    """Delete the named checkpoints of an ended run, and what its unfinished todos had written for the next
    attempt. Return how many there were. Raise NotFound; Conflict for a live run, which may still need them.
    """
    keys = store.keys.run(run_id)

    def delete(pipeline: Pipeline) -> int:
        status, fields = pipeline.hget(keys.meta, "status"), pipeline.hkeys(keys.meta)
        if status is None:
            raise NotFound(f"there is no run {run_id!r}", "list the runs: coord list-runs")
        if not RunStatus(status).ended:
            raise Conflict(
                f"run {run_id} is {status}, and may need its checkpoints",
                f"wait for its end: coord watch {run_id}; or end it: coord cancel {run_id}",
            )
        names = [field for field in fields if field.startswith(FIELD)]
        written = pipeline.hlen(keys.checkpoint)
        pipeline.multi()
        if names:
            pipeline.hdel(keys.meta, *names)
        pipeline.delete(keys.checkpoint)
        return len(names) + int(written)

    return int(store.redis.transaction(delete, keys.meta, keys.checkpoint, value_from_callable=True))


def clear_all(store: RunStore) -> int:
    """Delete the checkpoints of all ended runs; return how many there were."""
    cleared = 0
    for run_id in store.redis.zrange(store.keys.runs, 0, -1):
        with suppress(NotFound, Conflict, ValueError, ResponseError):  # live, just deleted, or damaged
            cleared += clear(store, run_id)
    return cleared


def refuse_restore(run_id: str, word: str) -> None:
    """Raise Conflict unless the step's word says that the work since the checkpoint is being undone."""
    if word not in ("rolling_back", "already"):
        raise Conflict(
            f"run {run_id} cannot be restored: it is {word}, or no longer has that checkpoint",
            f"look at it: coord show-run {run_id}",
        )


def since(store: RunStore, found: NamedCheckpoint, begun: Collection[str]) -> tuple[str, ...]:
    """Return the todos that had not succeeded at the checkpoint, of those that a rollback would undo."""
    states = store.redis.hgetall(store.keys.run(found.run_id).state)
    kept = {todo for todo in found.succeeded if states.get(todo) == TodoState.SUCCEEDED}
    return tuple(todo for todo in begun if todo not in kept)


def _read(run_id: str, name: str, record: str) -> NamedCheckpoint:
    fields = json.loads(record)
    return NamedCheckpoint(
        run_id=run_id,
        name=name,
        at=iso(fields["at_ms"]),
        by=fields["by"],
        succeeded=tuple(fields["succeeded"] or ()),
    )
