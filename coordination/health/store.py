"""Health records of a namespace in Redis, and its disconnected repositories.

A person disconnects a repository. As soon as the hash is written, the step `claim` parks its todos with the
wait reason `disconnected`. Its running todos are handed back with their fences, as their workers would do;
the next heartbeat of each worker finds the lease lost and ends the command. The hash survives a restart of
Redis, as runs do.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError
from redis import Redis

from coordination.backend.keys import Keys, split_member
from coordination.errors import NotFound
from coordination.frozen import FrozenModel
from coordination.health.records import Health
from coordination.runs.attempt_store import Grant
from coordination.runs.records import Descriptor
from coordination.runs.store import RunStore

if TYPE_CHECKING:  # it imports Celery, which takes 300 ms
    from coordination.runs.dispatch import Dispatcher

SILENT_MS = 30_000
"""Milliseconds after its last round for which a monitor counts as active; leaders change within seconds."""

R = TypeVar("R", bound=BaseModel)
logger = logging.getLogger(__name__)


class Monitor(FrozenModel):
    """The last round of the monitor."""

    at: float
    worker: str


class RemoteReport(FrozenModel):
    """The last look of a host at the remote of a repository."""

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
        """Return the records in the order of their ids. Unreadable ones are left out: the monitor writes them
        again.
        """
        found = (_read(Health, row) for row in self.redis.hgetall(self._keys.health).values())
        return tuple(sorted((one for one in found if one is not None), key=lambda one: one.id))

    def monitor(self) -> Monitor | None:
        """Return the last round of the monitor; None without a recent one."""
        row = self.redis.get(self._keys.health_monitor)
        return None if row is None else _read(Monitor, row)

    def write(self, changed: Iterable[Health], removed: Collection[str], monitor: Monitor) -> None:
        """Write the changed records and the mark of this round; delete the removed records."""
        rows = {one.id: one.model_dump_json() for one in changed}
        with self.redis.pipeline(transaction=True) as pipeline:
            if removed:
                pipeline.hdel(self._keys.health, *removed)
            if rows:
                pipeline.hset(self._keys.health, mapping=dict(rows))
            pipeline.set(self._keys.health_monitor, monitor.model_dump_json(), px=SILENT_MS)
            pipeline.execute()

    def remotes(self) -> Mapping[str, tuple[RemoteReport, ...]]:
        """Return repository → the last report of each host on its remote."""
        found: dict[str, tuple[RemoteReport, ...]] = {}
        for row in self.redis.hgetall(self._keys.health_remotes).values():
            if (report := _read(RemoteReport, row)) is not None:
                found[report.repo] = (*found.get(report.repo, ()), report)
        return found

    def report_remote(self, report: RemoteReport) -> None:
        field = f"{report.repo} {report.host}"
        self.redis.hset(self._keys.health_remotes, field, report.model_dump_json())

    def forget_remotes(self, reports: Iterable[RemoteReport]) -> None:
        """Delete the reports of hosts that no longer check these remotes."""
        if fields := [f"{one.repo} {one.host}" for one in reports]:
            self.redis.hdel(self._keys.health_remotes, *fields)


def _read(kind: type[R], row: str) -> R | None:
    try:
        return kind.model_validate_json(row)
    except ValidationError as error:
        logger.warning("a record of health cannot be read: %s", str(error).partition("\n")[0])
        return None


class Disconnection(FrozenModel):
    """The person who disconnected a repository, and why."""

    at: datetime
    by: str = ""
    why: str = ""


class Disconnections:
    """The disconnected repositories of a namespace."""

    def __init__(self, store: RunStore) -> None:
        self._store = store

    def all(self) -> Mapping[str, Disconnection]:
        """Return repository → its disconnection. A disconnection whose record cannot be read still counts."""
        rows = self._store.redis.hgetall(self._store.keys.disconnected)
        return {repo: _read_disconnection(row) for repo, row in sorted(rows.items())}

    def disconnect(
        self, repo: str, dispatcher: Dispatcher, *, by: str, why: str = ""
    ) -> tuple[tuple[str, str], ...]:
        """Stop starting todos in the repository; return the run and the id of each todo that is handed back.
        A second call changes nothing.
        """
        found = Disconnection(at=datetime.now(UTC), by=by, why=why)
        self._store.redis.hsetnx(self._store.keys.disconnected, repo, found.model_dump_json())
        handed_back = []
        for run_id, todo_id, fence in self._running_in(repo):
            grant = Grant(
                run_id=run_id, todo_id=todo_id, attempt=0, fence=fence, spec_json="", tip=None, tries=0
            )
            reply = self._store.hand_back(grant)
            dispatcher.follow(reply)
            if reply.word != "stale":
                handed_back.append((run_id, todo_id))
        return tuple(handed_back)

    def connect(self, repo: str) -> Disconnection:
        """Let todos start again within five seconds; return the former disconnection. Raises NotFound."""
        row = self._store.redis.hget(self._store.keys.disconnected, repo)
        if row is None or not self._store.redis.hdel(self._store.keys.disconnected, repo):
            raise NotFound(f"repository {repo} is not disconnected", "list the states: coord repo health")
        return _read_disconnection(row)

    def _running_in(self, repo: str) -> Iterator[tuple[str, str, int]]:
        """Yield run, todo and fence of the todos that run in the repository."""
        for member, fence in self._store.redis.hgetall(self._store.keys.holders).items():
            run_id, todo_id = split_member(member)
            descriptor = self._store.redis.hget(self._store.keys.run(run_id).descriptor, todo_id)
            if descriptor is not None and Descriptor.parse(descriptor).repo == repo:
                yield run_id, todo_id, int(fence)


def _read_disconnection(row: str) -> Disconnection:
    try:
        return Disconnection.model_validate_json(row)
    except ValidationError:
        return Disconnection(at=datetime.fromtimestamp(0, UTC), why="its record cannot be read")
