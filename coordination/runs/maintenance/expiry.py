"""Delete the records of runs that ended longer than `keep_runs` ago.

Runs with a failed compensation are kept, because a person still has to resolve them. Runs whose work has not
landed are kept too: later runs of their change set need their outputs, signed results and bundles.

Records are deleted in batches, because Redis executes one command at a time and a run of 10,000 todos has
10,000 logs. The keys by which the rest of a run is found (its entry in `runs`, its meta, the names of its
todos) are deleted last, so that the next round continues an interrupted deletion. Branches and worktrees are
on the workers' machines and stay; `coord run clean` removes them.

With `export_runs` each run is first written to that folder on the machine of the maintenance leader; a run
that could not be written is kept.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import timedelta

import redis

from coordination.backend.keys import member
from coordination.cache.names import of_run
from coordination.durations import ms
from coordination.errors import Unreadable
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.export.document import RunArchiver
from coordination.runs.records import Descriptor, RunStatus
from coordination.runs.store import RunStore
from coordination.runs.write_back import FILE

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
FORGOTTEN_AT_ONCE = 100
UNLINKED_AT_ONCE = 500


class RunExpiry:
    def __init__(self, store: RunStore, keep: timedelta, archiver: RunArchiver | None = None) -> None:
        self._store = store
        self._keep = keep
        self._archiver = archiver
        self._next_look = 0.0

    def run_when_due(self) -> list[str]:
        """Do a round if `LOOK_EVERY_S` have passed since the last one; return the deleted runs."""
        if time.monotonic() < self._next_look:
            return []
        self._next_look = time.monotonic() + LOOK_EVERY_S
        return self.run_once()

    def run_once(self) -> list[str]:
        """Delete the runs that ended too long ago; return their ids."""
        until = self._store.now_ms() - ms(self._keep)
        begun_before = self._store.redis.zrangebyscore(self._store.keys.runs, "-inf", until)
        old = [run_id for run_id in begun_before if self._ended_before(run_id, until)]
        old = self._without_unlanded(old)[:FORGOTTEN_AT_ONCE] if old else []
        kept = old if self._archiver is None else self._archiver.keep(old)
        for run_id in kept:
            forget(self._store, run_id)
        return kept

    def _without_unlanded(self, runs: Sequence[str]) -> list[str]:
        """Return the runs that no change set needs; none while one cannot be read."""
        sets = ChangeSets(self._store)
        try:
            found = [sets.read(name) for name in sets.list()]
        except Unreadable as error:
            logger.warning("no run is deleted: %s", error.message)
            return []
        needed = {run for one in found if one for run in one.runs}
        return [run for run in runs if run not in needed]

    def _ended_before(self, run_id: str, until_ms: int) -> bool:
        keys = self._store.keys
        try:
            facts = ["status", "finished_at", "imported_at"]
            status, finished_at, imported_at = self._store.redis.hmget(keys.run(run_id).meta, facts)
            if status is None:  # its records were deleted by something other than coord
                return self._store.redis.zscore(keys.live, run_id) is None
            # a failed rollback waits for a person
            over = RunStatus(status).ended and status != RunStatus.ROLLBACK_FAILED
            return over and max(int(finished_at or until_ms), int(imported_at or 0)) < until_ms
        except (redis.ResponseError, ValueError):  # damaged, or written by another version: left for a person
            return False


def forget(store: RunStore, run_id: str) -> None:
    """Delete everything that Redis keeps of an ended run."""
    keys = store.keys.run(run_id)
    forget_requests(store, run_id)
    forget_logs(store, run_id)
    forget_bundles(store, run_id)
    forget_contexts(store, run_id)
    last, file = [keys.meta, keys.descriptor], store.redis.hget(keys.meta, FILE)
    plan = store.redis.hget(keys.meta, "plan_id") or ""
    _unlink(store, [key for key in keys.own if key not in last])
    with store.redis.pipeline(transaction=True) as pipeline:
        pipeline.unlink(*last)
        pipeline.zrem(store.keys.runs, run_id)
        pipeline.zrem(store.keys.half_undone, run_id)
        pipeline.zrem(store.keys.unwritten(file or ""), run_id)
        gone = pipeline.execute()
    if gone[1]:  # this process deleted it, so no other one has announced that
        store.announce("run.forgotten", run_id, run=run_id, data={"plan": plan})


def forget_requests(store: RunStore, run_id: str) -> None:
    """Release the locks and requests of a run's todos: they remain if its records were lost without its
    steps.
    """
    todos = store.redis.hkeys(store.keys.run(run_id).descriptor)
    for start in range(0, len(todos), UNLINKED_AT_ONCE):
        store.give_back(member(run_id, todo) for todo in todos[start : start + UNLINKED_AT_ONCE])


def forget_logs(store: RunStore, run_id: str) -> None:
    keys = store.keys.run(run_id)
    _unlink(store, [keys.log(todo) for todo in store.redis.hkeys(keys.descriptor)])


def forget_contexts(store: RunStore, run_id: str) -> None:
    """Delete the context values that the run's todos have shared."""
    store.drop_contexts(of_run(run_id, store.redis.hkeys(store.keys.run(run_id).descriptor)))


def forget_bundles(store: RunStore, run_id: str) -> None:
    """Delete the bundles of commits that were transferred between hosts."""
    keys = store.keys.run(run_id)
    repos = {Descriptor.parse(text).repo for text in store.redis.hvals(keys.descriptor)}
    _unlink(store, [keys.bundle(repo) for repo in sorted(repos)])


def _unlink(store: RunStore, keys: Sequence[str]) -> None:
    for start in range(0, len(keys), UNLINKED_AT_ONCE):
        store.redis.unlink(*keys[start : start + UNLINKED_AT_ONCE])
