"""Import a checked document into Redis: a draft that expires, which one step turns into a run, whole or not
at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis import Redis

from coordination.backend.keys import RunKeys, resource
from coordination.errors import Conflict
from coordination.runs.export.document import HASH
from coordination.runs.export.import_document import Received
from coordination.runs.records import Descriptor, RunStatus, TodoState
from coordination.runs.store import RunStore
from coordination.runs.submission.draft import DRAFT_TTL

ENTRIES_AT_ONCE = 500
BYTES_AT_ONCE = 1024 * 1024


def refuse_known(store: RunStore, run: Received) -> None:
    """Raise Conflict where a run of that id exists. A draft is left over from an interrupted import, and is
    no conflict.
    """
    status = store.status(run.run_id)
    listed = store.redis.zscore(store.keys.runs, run.run_id) is not None
    if listed or status not in (None, RunStatus.DRAFT):
        words = f"run {run.run_id} is here already: it is {status or 'listed, without records'}"
        raise Conflict(words, f"look at it: coord show-run {run.run_id}; nothing was imported")


def adopt(store: RunStore, run: Received, actor: str, check: Callable[[], object] = lambda: None) -> None:
    """Import the run. Raise Conflict where it exists already. The caller holds the start lock. `check` is
    called when the draft is in Redis; where it raises, the draft expires.
    """
    refuse_known(store, run)
    keys = store.keys.run(run.run_id)
    names = [f"{keys.prefix}:{name}" for name in run.keys]
    store.redis.unlink(*keys.own, *names)
    _declare_missing(store, run)
    writer = _Writer(store.redis)
    for name, kind, entries in run.sections():
        writer.write(f"{keys.prefix}:{name}", kind, _as_draft(keys, name, entries))
    writer.flush()
    check()
    further = [name for name in names if name not in keys.own]
    reply = store.adopt(run.run_id, further, run.status, run.meta["started_at"], run.fence, actor, run.timers)
    if reply.word != "adopted":
        raise Conflict(
            f"run {run.run_id} was not imported: it is {reply.status or 'gone'}", "import it again"
        )
    _keep_commits(store, run)


def _keep_commits(store: RunStore, run: Received) -> None:
    """Record the commits of completed todos for `submission/landed.py`, where no newer one is known."""
    facts, places = run.hash("facts"), run.hash("place")
    with store.redis.pipeline(transaction=False) as pipeline:
        for todo, state in run.hash("state").items():
            commit = facts.get(f"{todo} commit")
            if state == TodoState.SUCCEEDED and commit and commit != facts.get(f"{todo} began"):
                source = facts.get(f"{todo} run", run.run_id)
                pipeline.hsetnx(
                    store.keys.commits, todo, f"{commit} {source} {Descriptor.parse(places[todo]).repo}"
                )
        pipeline.execute()


def _as_draft(keys: RunKeys, name: str, entries: Any) -> Any:
    return {**entries, "status": RunStatus.DRAFT} if name == "meta" else entries


def _declare_missing(store: RunStore, run: Received) -> None:
    """Declare the resources that its todos need and this Redis lacks, with their former capacities."""
    names = list(run.capacities)
    known = (
        store.redis.hmget(store.keys.locks.capacities, [resource(name) for name in names]) if names else []
    )
    store.declare(
        {name: run.capacities[name] for name, there in zip(names, known, strict=True) if there is None}
    )


class _Writer:
    """Writer of chunks that set their own expiry, because the process may die between any two of them."""

    def __init__(self, redis: Redis) -> None:
        self._pipeline = redis.pipeline(transaction=True)
        self._entries = self._bytes = 0

    def write(self, key: str, kind: str, entries: Any) -> None:
        for name, value in entries.items():
            match kind:
                case "hash":
                    self._pipeline.hset(key, name, value)
                case "set":
                    self._pipeline.sadd(key, name)
                case "stream":
                    self._pipeline.xadd(key, value, id=name)
                case _:
                    self._pipeline.zadd(key, {name: value})
            self._entries += 1
            self._bytes += len(value) if kind == HASH else 0
            if self._entries >= ENTRIES_AT_ONCE or self._bytes >= BYTES_AT_ONCE:
                self._pipeline.expire(key, DRAFT_TTL)
                self.flush()
        self._pipeline.expire(key, DRAFT_TTL)

    def flush(self) -> None:
        self._pipeline.execute()
        self._entries = self._bytes = 0
