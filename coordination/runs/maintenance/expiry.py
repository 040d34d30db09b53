"""Runs that ended long ago are forgotten: everything that Redis keeps of them goes, after `keep_runs`. Not those of which
something could not be undone: nobody would hear of it again.

In pieces, since Redis does one thing at a time, and a run of 10,000 todos has as many logs. By which the rest of a run is
found (its place in `runs`, its meta, the names of its todos) goes last, so that the next round takes up what was cut short.
Branches and worktrees are on the machines of the workers, and stay: `coord clean`.

With `export_runs` each is written to that folder before, on the machine of the keeper that leads; else it is not forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta

import redis

from coordination.backend.keys import member
from coordination.cache.names import of_run
from coordination.runs.export.archiver import RunArchiver
from coordination.runs.records import RunStatus
from coordination.runs.store import RunStore, ms

LOOK_EVERY_S = 5.0
FORGOTTEN_AT_ONCE = 100
UNLINKED_AT_ONCE = 500


class Expiry:
    def __init__(self, store: RunStore, keep: timedelta, shelf: RunArchiver | None = None) -> None:
        self._store = store
        self._keep = keep
        self._shelf = shelf
        self._next_look = 0.0

    def run_when_due(self) -> list[str]:
        """A round every few seconds, however often it is asked for."""
        if time.monotonic() < self._next_look:
            return []
        self._next_look = time.monotonic() + LOOK_EVERY_S
        return self.run_once()

    def run_once(self) -> list[str]:
        """Forgets what ended too long ago; returns those runs."""
        until = self._store.now_ms() - ms(self._keep)
        begun_before = self._store.redis.zrangebyscore(self._store.keys.runs, "-inf", until)
        old = [run_id for run_id in begun_before if self._ended_before(run_id, until)][:FORGOTTEN_AT_ONCE]
        kept = old if self._shelf is None else self._shelf.keep(old)
        for run_id in kept:
            forget(self._store, run_id)
        return kept

    def _ended_before(self, run_id: str, until_ms: int) -> bool:
        keys = self._store.keys
        try:
            facts = ["status", "finished_at", "imported_at"]
            status, finished_at, imported_at = self._store.redis.hmget(keys.run(run_id).meta, facts)
            if status is None:  # its records went in a way that was not ours
                return self._store.redis.zscore(keys.live, run_id) is None
            over = RunStatus(status).ended and status != RunStatus.ROLLBACK_FAILED  # that waits for a person
            return over and max(int(finished_at or until_ms), int(imported_at or 0)) < until_ms
        except (redis.ResponseError, ValueError):  # damaged, or of another version: for people to look at
            return False


def forget(store: RunStore, run_id: str) -> None:
    """Everything that Redis keeps of an ended run."""
    keys = store.keys.run(run_id)
    forget_requests(store, run_id)
    forget_logs(store, run_id)
    forget_bundles(store, run_id)
    forget_contexts(store, run_id)
    last = [keys.meta, keys.place]
    _unlink(store, [key for key in keys.own if key not in last])
    with store.redis.pipeline(transaction=True) as pipeline:
        pipeline.unlink(*last)
        pipeline.zrem(store.keys.runs, run_id)
        pipeline.zrem(store.keys.half_undone, run_id)
        pipeline.execute()


def forget_requests(store: RunStore, run_id: str) -> None:
    """Where a run's records were lost without its steps, what its todos held or waited for is still kept for them."""
    todos = store.redis.hkeys(store.keys.run(run_id).place)
    for start in range(0, len(todos), UNLINKED_AT_ONCE):
        store.give_back(member(run_id, todo) for todo in todos[start : start + UNLINKED_AT_ONCE])


def forget_logs(store: RunStore, run_id: str) -> None:
    keys = store.keys.run(run_id)
    _unlink(store, [keys.log(todo) for todo in store.redis.hkeys(keys.place)])


def forget_contexts(store: RunStore, run_id: str) -> None:
    """What its todos have shared among themselves."""
    store.drop_contexts(of_run(run_id, store.redis.hkeys(store.keys.run(run_id).place)))


def forget_bundles(store: RunStore, run_id: str) -> None:
    """The commits that were carried from host to host."""
    keys = store.keys.run(run_id)
    repos = {place.split()[2] for place in store.redis.hvals(keys.place)}
    _unlink(store, [keys.bundle(repo) for repo in sorted(repos)])


def _unlink(store: RunStore, keys: Sequence[str]) -> None:
    for start in range(0, len(keys), UNLINKED_AT_ONCE):
        store.redis.unlink(*keys[start : start + UNLINKED_AT_ONCE])
