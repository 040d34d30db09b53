"""Gathers the facts about an ecosystem's health from Redis, the file and the supervisors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from redis import Redis

from coordination.backend.keys import Keys
from coordination.health.facts import Facts, QueueWatch, ServiceReport
from coordination.health.store import HealthStore
from coordination.models import Ecosystem
from coordination.runs.presence import Presence


@dataclass(frozen=True, kw_only=True)
class Gathered:
    declared: Ecosystem
    facts: Facts
    server: str
    """Id of the Redis server's process."""


class FactSource:
    """Methods raise redis-py's errors."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        declared: Callable[[], Ecosystem],
        services: Callable[[], Iterable[ServiceReport]],
    ) -> None:
        """`declared` returns the records of the file, `services` those services of all hosts that are to be
        up.
        """
        self._redis, self._keys = redis, keys
        self._declared, self._services = declared, services
        self._store = HealthStore(redis, keys)
        self._presence = Presence(redis, keys)
        self._queues = QueueWatch()

    def gather(self, now: float) -> Gathered:
        declared = self._declared()
        workers = self._presence.workers()
        lengths = self._lengths(declared, sorted({worker.host for worker in workers}))
        facts = Facts(
            now=now,
            workers=workers,
            services={one.name: one for one in self._services()},
            remotes=self._store.remotes(),
            growing=self._queues.growing(lengths, now),
            disconnected=self._redis.hkeys(self._keys.disconnected),
        )
        return Gathered(declared=declared, facts=facts, server=self._redis.info("server")["run_id"])

    def _lengths(self, declared: Ecosystem, hosts: Iterable[str]) -> dict[str, int]:
        queues = [(repo.name, host) for repo in declared.repos for host in (None, *hosts)]
        with self._redis.pipeline(transaction=False) as pipeline:
            for repo, host in queues:
                pipeline.llen(self._keys.queue(repo, host))
            counts = pipeline.execute()
        found: dict[str, int] = {}
        for (repo, _), count in zip(queues, counts, strict=True):
            found[repo] = found.get(repo, 0) + int(count)
        return found
