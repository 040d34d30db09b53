"""Set keys of a wrong type apart, which somebody has written over coord's own."""

from __future__ import annotations

import time

from coordination.backend.key_table import set_apart
from coordination.runs.records import LIVE
from coordination.runs.store import RunStore

EVERY_S = 5.0
"""Least time between two scans of all keys."""


class KeyMender:
    """Works without the leader's lock: nobody could acquire a lock whose key has a wrong type."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._due_at = 0.0

    def run_when_due(self) -> None:
        if time.monotonic() >= self._due_at:
            self._due_at = time.monotonic() + EVERY_S
            if "live" in set_apart(self._store.redis, self._store.keys.namespace):
                self._list_live()

    def _list_live(self) -> None:
        """Rebuild the list of runs that have not ended, after it was lost."""
        redis, keys = self._store.redis, self._store.keys
        for run_id, at_ms in redis.zrange(keys.runs, 0, -1, withscores=True):
            if self._store.status(run_id) in LIVE:
                redis.zadd(keys.live, {run_id: at_ms}, nx=True)
