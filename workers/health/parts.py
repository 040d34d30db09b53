"""The parts of a worker that look after health: the monitor, and the looks at remotes.

Every worker that has the file has both; one of all monitors acts. A restricted worker has neither: it may
write nothing but the results of its todos.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
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
from coordination.health.facts import WORKS, ServiceReport
from coordination.health.monitor import HealthMonitor
from coordination.health.sources import FactSource
from coordination.health.store import HealthStore
from coordination.locks import LockManager
from coordination.messages.bus import open_bus
from coordination.models import Ecosystem
from coordination.runs.connection import Connection
from coordination.runs.presence import Presence, Worker
from coordination.services.host import ServiceHost, ServiceState
from coordination.services.published import on_all_hosts, published
from workers.config import ServedRepositories, WorkerConfig
from workers.health.recovery import RecoveryRuns
from workers.health.remotes import RemoteLooks

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
            RecoveryRuns(lambda: self._connection, self._declared, self._reports, bus),
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

    def _reports(self) -> Sequence[ServiceReport]:
        presence = Presence(self._redis, self._keys)
        return service_reports(self._config.state, self._worker.host, presence)


def service_reports(state: Path, here: str, presence: Presence) -> Sequence[ServiceReport]:
    """Return the services of all hosts that are to be up, one report each: of a host where it does not work,
    if there is one. `state`: the state folder of the host `here`.
    """
    found = sorted(_reports(state, here, presence), key=lambda one: one.state in WORKS, reverse=True)
    return tuple({one.name: one for one in found}.values())


def _reports(state: Path, here: str, presence: Presence) -> Iterator[ServiceReport]:
    host = ServiceHost(state)
    wanted = host.wanted()
    for name, found in on_all_hosts(here, host.states(), published(presence)).items():
        for one in found:
            status = one.status
            if status.state in DOWN_ON_PURPOSE or (one.host == here and name not in wanted):
                continue
            report = ServiceReport(
                name=name, repo=status.repo, host=one.host, state=status.state, why=status.why,
                latency_s=status.latency_s, away=one.away,
            )  # fmt: skip
            was = f"no worker there; {one.age_s:.0f} s ago it was {status.state}"
            yield replace(report, state=ServiceState.UNREACHABLE, why=was) if one.away else report
