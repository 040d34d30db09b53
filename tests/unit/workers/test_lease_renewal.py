"""How often leases are renewed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import fakeredis
import pytest

from coordination.runs.store import RunStore
from coordination.runs.worker_registry import Worker, WorkerRegistry
from coordination.settings import Settings
from workers.config import ServedRepositories, WorkerConfig
from workers.leases import Leases


@pytest.mark.parametrize(("heartbeat_s", "lease_s", "waited_s"), [(5, 15, 5), (60, 15, 5), (1, 15, 1)])
def test_a_lease_is_renewed_three_times_before_it_runs_out_however_the_settings_are_set(
    tmp_path: Path, heartbeat_s: int, lease_s: int, waited_s: int
):
    settings = Settings(heartbeat=timedelta(seconds=heartbeat_s), lease_ttl=timedelta(seconds=lease_s))
    config = WorkerConfig(redis_url="", settings=settings, places={}, jobs=1, state=tmp_path)
    store = RunStore(fakeredis.FakeRedis(decode_responses=True), "test")
    worker = Worker(id="w@h", host="h", pid=1, version="1", repos=(), jobs=1)
    leases = Leases(
        store, WorkerRegistry(store.redis, store.keys), worker, config, ServedRepositories(config)
    )

    assert leases.interval_s == waited_s
