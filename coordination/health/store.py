"""Health in Redis: the records, the reports on remotes, and the last round of the monitor."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from redis import Redis

from coordination.backend.keys import Keys
from coordination.health.records import Health

SILENT_MS = 30_000
"""Time after its last round for which a monitor counts as looking: leaders change within a few seconds."""

R = TypeVar("R", bound=BaseModel)
logger = logging.getLogger(__name__)


class Monitor(BaseModel):
    """The last round of the monitor."""

    model_config = ConfigDict(frozen=True)

    at: float
    worker: str


class RemoteReport(BaseModel):
    """The last look of a host at the remote of a repository."""

    model_config = ConfigDict(frozen=True)

    repo: str
    host: str
    at: float
    healthy: bool
    why: str = ""
    latency_s: float = 0.0


class HealthStore:
    """The health of a namespace. Methods raise redis-py's errors."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.redis = redis
        self._keys = keys

    def records(self) -> tuple[Health, ...]:
        """Return the records in the order of their ids. One that cannot be read is left out: the monitor
        writes it again.
        """
        found = (_read(Health, row) for row in self.redis.hgetall(self._keys.health).values())
        return tuple(sorted((one for one in found if one is not None), key=lambda one: one.id))

    def monitor(self) -> Monitor | None:
        """Return the last round of the monitor; None if there was none lately."""
        row = self.redis.get(self._keys.health_monitor)
        return None if row is None else _read(Monitor, row)

    def write(self, changed: Iterable[Health], removed: Collection[str], monitor: Monitor) -> None:
        """Write records and the mark of this round; remove records without a subject."""
        rows = {one.id: one.model_dump_json() for one in changed}
        with self.redis.pipeline(transaction=True) as pipeline:
            if removed:
                pipeline.hdel(self._keys.health, *removed)
            if rows:
                pipeline.hset(self._keys.health, mapping=dict(rows))
            pipeline.set(self._keys.health_monitor, monitor.model_dump_json(), px=SILENT_MS)
            pipeline.execute()

    def remotes(self) -> Mapping[str, tuple[RemoteReport, ...]]:
        """Return repository → the last look of each host at its remote."""
        found: dict[str, tuple[RemoteReport, ...]] = {}
        for row in self.redis.hgetall(self._keys.health_remotes).values():
            if (report := _read(RemoteReport, row)) is not None:
                found[report.repo] = (*found.get(report.repo, ()), report)
        return found

    def report_remote(self, report: RemoteReport) -> None:
        field = f"{report.repo} {report.host}"
        self.redis.hset(self._keys.health_remotes, field, report.model_dump_json())

    def forget_remotes(self, reports: Iterable[RemoteReport]) -> None:
        """Delete reports of hosts that do not look at these remotes any more."""
        if fields := [f"{one.repo} {one.host}" for one in reports]:
            self.redis.hdel(self._keys.health_remotes, *fields)


def _read(kind: type[R], row: str) -> R | None:
    try:
        return kind.model_validate_json(row)
    except ValidationError as error:
        logger.warning("a record of health cannot be read: %s", str(error).partition("\n")[0])
        return None
