"""Which workers are there, and which repositories they serve; they say so with each heartbeat."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from pydantic import BaseModel, ConfigDict
from redis import Redis
from redis.client import Pipeline

from coordination.runs.store import ms
from coordination.wire.keys import Keys

MISSED_HEARTBEATS = 3
REMEMBERED = timedelta(days=1)


class Worker(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: str
    host: str
    pid: int
    version: str
    repos: tuple[str, ...]
    jobs: int
    """How many todos it carries out at once."""


class Presence:
    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    def say(self, pipeline: Pipeline, worker: Worker, now_ms: int, heartbeat: timedelta) -> None:
        pipeline.set(self._keys.worker(worker.id), worker.model_dump_json(), px=MISSED_HEARTBEATS * ms(heartbeat))
        pipeline.zadd(self._keys.workers, {worker.id: now_ms})
        pipeline.zremrangebyscore(self._keys.workers, "-inf", now_ms - ms(REMEMBERED))

    def leave(self, worker: Worker) -> None:
        self._redis.delete(self._keys.worker(worker.id))
        self._redis.zrem(self._keys.workers, worker.id)

    def workers(self) -> tuple[Worker, ...]:
        """Those heard of within their last heartbeats."""
        ids = self._redis.zrange(self._keys.workers, 0, -1)
        rows = self._redis.mget([self._keys.worker(i) for i in ids]) if ids else []
        return tuple(Worker.model_validate_json(row) for row in rows if row is not None)

    def answers(self, pid: int) -> bool:
        """Whether the worker of this process is there."""
        return any(worker.pid == pid for worker in self.workers())

    def unserved(self, repos: Iterable[str]) -> tuple[str, ...]:
        """Those of `repos` for which no worker is there."""
        served = {repo for worker in self.workers() for repo in worker.repos}
        return tuple(sorted(set(repos) - served))
