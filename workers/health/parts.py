"""The parts of a worker that look after health: the monitor, and the looks at remotes.

Every worker that has the file has both; one of all monitors acts. A restricted worker has neither: it may
write nothing but the results of its todos.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from redis import Redis

from coordination.backend.keys import Keys
from coordination.background import BackgroundService
from coordination.breakers.manager import BreakerManager
from coordination.breakers.records import Policy
from coordination.ecosystem.document import load
from coordination.errors import CoordinationError
from coordination.events.stream import EventStream
from coordination.health.facts import ServiceReport
from coordination.health.monitor import HealthMonitor
from coordination.health.sources import FactSource
from coordination.health.store import HealthStore
from coordination.locks import LockManager
from coordination.messages.bus import open_bus
from coordination.models import Ecosystem
from coordination.runs.connection import Connection
from coordination.runs.presence import Worker
from coordination.services.host import ServiceHost, ServiceState
from workers.config import WorkerConfig
from workers.health.recovery import RecoveryRuns
from workers.health.remotes import RemoteLooks
from workers.served import ServedRepositories

DOWN_ON_PURPOSE = (ServiceState.STOPPED, ServiceState.SHUTTING_DOWN)

logger = logging.getLogger(__name__)


class DeclaredFile:
    """The records of the file, read again when it has changed. While it is invalid, the former ones hold."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stamp: tuple[int, int, int] | None = None
        self._known: Ecosystem | None = None

    def __call__(self) -> Ecosystem:
        """Return the records. Raises CoordinationError where the file was never valid."""
        try:
            found = self._file.stat()
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            if self._known is None or stamp != self._stamp:
                self._known, self._stamp = load(self._file).ecosystem, stamp
        except (CoordinationError, OSError) as error:
            if self._known is None:
                raise
            logger.debug("%s cannot be read, its former content holds: %s", self._file, error)
        return self._known


class HealthParts:
    def __init__(
        self, config: WorkerConfig, redis: Redis, keys: Keys, worker: Worker, served: ServedRepositories
    ) -> None:
        assert config.file is not None
        self._config, self._redis, self._keys = config, redis, keys
        self._worker, self._served = worker, served
        self._file = config.file
        self._declared = DeclaredFile(config.file)

    @cached_property
    def services(self) -> Sequence[BackgroundService]:
        """Return the threads."""
        if self._config.settings.restricted:
            return ()
        store = HealthStore(self._redis, self._keys)
        remotes = RemoteLooks(store, self._declared, self._served, self._worker.host)
        return (self._monitor(store), remotes)

    def _monitor(self, store: HealthStore) -> HealthMonitor:
        settings, namespace = self._config.settings, self._keys.namespace
        bus = open_bus(self._redis, settings, self._worker.id)
        return HealthMonitor(
            store,
            FactSource(self._redis, self._keys, self._declared, self._reports),
            EventStream(self._redis, namespace),
            LockManager(self._redis, namespace),
            BreakerManager(self._redis, namespace, policy=Policy.of(settings)),
            RecoveryRuns(lambda: self._connection, self._declared, bus),
            label=self._worker.id,
            lease=settings.lease_ttl,
            every=settings.health_interval,
        )

    @cached_property
    def _connection(self) -> Connection:
        """A connection for the runs of recoveries."""
        return Connection(
            self._config.redis_url,
            self._config.settings,
            self._config.ecosystem_id,
            changed_folders=lambda: tuple(self._served.values()),
        )

    def _reports(self) -> Iterator[ServiceReport]:
        """Yield the states of services that are to be up."""
        host = ServiceHost(self._config.state)
        wanted = host.wanted()
        for name, status in host.states().items():
            if name in wanted and status.state not in DOWN_ON_PURPOSE:
                yield ServiceReport(
                    name=name,
                    repo=status.repo,
                    host=self._worker.host,
                    state=status.state,
                    why=status.why,
                    latency_s=status.latency_s,
                )
