"""Every worker that is not restricted clears what the dead have left in locks and inboxes."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path

from coordination.backend.client import Profile, connect
from coordination.locks import LockManager, Owner
from coordination.messages import MessageBus
from coordination.settings import Settings
from tests.waiting import until
from workers.app import Container
from workers.config import WorkerConfig
from workers.restricted import RestrictedContainer


def config(redis_url: str, folder: Path) -> WorkerConfig:
    return WorkerConfig(
        redis_url=redis_url, settings=Settings(), places={"r1": folder}, jobs=1, state=folder / "state"
    )


DEAD = Owner(host="elsewhere", pid=1, started="long ago", thread=1)


def test_a_worker_sweeps_locks_and_inboxes(redis_url: str, tmp_path: Path):
    parts = Container(config(redis_url, tmp_path))
    assert parts.sweeper in parts.services
    with (
        connect(redis_url, Profile.WORKER) as redis,
        closing(LockManager(redis, "coord", owner=DEAD)) as locks,
    ):
        bus = MessageBus(redis, "coord", sender="me")
        bus.register("repo:r1")
        bus.send("repo:r1", "note", "soon over", ttl=timedelta(milliseconds=1))
        locks.acquire("x", ttl=timedelta(milliseconds=5), keep=False)
        until(lambda: not redis.exists("coord:lock:x"))

        swept = parts.sweeper.run_once()

        assert (swept.idle, swept.owners) == (1, 1)
        assert sum(chore.expired for chore in swept.chores) == 1
    parts.sweeper.stop()
    parts.close()


def test_a_restricted_worker_sweeps_nothing(redis_url: str, tmp_path: Path):
    parts = RestrictedContainer(config(redis_url, tmp_path))

    assert not any(service is parts.sweeper for service in parts.services)
    parts.close()
