"""The registry of living workers and the repositories that they serve; a worker renews its record with each
heartbeat.

`MessageBus.presence` lists the readers of an inbox, workers or not.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import timedelta

from pydantic import ValidationError
from redis import Redis

from coordination.backend.keys import Keys
from coordination.backend.step_connection import StepCaller
from coordination.backend.steps.namespace import Meet
from coordination.durations import ms
from coordination.errors import Conflict
from coordination.frozen import FrozenModel
from coordination.models import ECOSYSTEM_ID
from coordination.planner.gates import MILESTONE_REPO

MISSED_HEARTBEATS = 3
REMEMBERED = timedelta(days=1)
SERVICES_REMEMBERED = timedelta(days=7)
LONGEST_MS = 20
LONGEST_ID = 64
SET_NAMESPACE = "`namespace` under `settings`, or COORD_NAMESPACE"

logger = logging.getLogger(__name__)


class Worker(FrozenModel):
    """Record of a living worker."""

    id: str
    host: str
    pid: int
    version: str
    repos: tuple[str, ...]
    jobs: int
    """Number of todos that it executes at once."""
    places: Mapping[str, str] = {}
    """Repository → its path on the host."""
    state: str = ""
    """The folder on the host for worktrees and logs."""
    unfit: Mapping[str, str] = {}
    """Repository → the reason why it cannot be worked on there at present."""
    broken: Mapping[str, str] = {}
    """Repository → the reason why git cannot use its folder there."""
    short: str = ""
    """Reason why it starts no todo at present: too little free disk space. Compensations go on, because they
    free space.
    """
    clock_offset_ms: int = 0
    """Difference of the host's clock to that of Redis; positive if the host is ahead."""
    services: Mapping[str, str] = {}
    """Repository → the states of its services there as JSON. They outlive the worker, so they are no part of
    its record.
    """

    @property
    def fit(self) -> tuple[str, ...]:
        """Return the repositories in which it can work at present."""
        return tuple(repo for repo in self.repos if repo not in self.unfit)

    def clash(self, other: Worker) -> str:
        """Return why the two workers cannot run at the same time; empty if they can: a host has one folder
        for the worktrees of a repository.
        """
        if self.id == other.id or self.host != other.host:
            return ""
        for repo in sorted(set(self.repos) & set(other.repos)):
            if self.places.get(repo) != other.places.get(repo):
                return (
                    f"{other.id} serves {repo} at {other.places.get(repo)}, "
                    f"this worker at {self.places.get(repo)}"
                )
            if self.state != other.state:
                return (
                    f"{other.id} serves {repo} with its state in {other.state}, this worker in {self.state}"
                )
        return ""


class WorkerRegistry:
    """The living workers of a namespace, and the coord version and ecosystem that own it."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._scripts = StepCaller(redis)

    def meet(self, version: str, heartbeat: timedelta, ecosystem: str = "") -> None:
        """Claim the namespace for this version and ecosystem.

        Raise Conflict while workers or runs of another version or ecosystem exist. `ecosystem`: the id in the
        file; without one, only the version is compared.
        """
        keys = [self._keys.version, self._keys.live, self._keys.workers, self._keys.ecosystem]
        step = Meet(
            version=version, gone_after_ms=MISSED_HEARTBEATS * ms(heartbeat), ecosystem=ecosystem,
            longest_id=LONGEST_ID,
        )  # fmt: skip
        other, owner = self._scripts(step, keys)
        if other != version:
            raise Conflict(
                f"this is coord {version}, but the workers and runs on this Redis use coord {other}",
                f"install {other} here; or stop its workers and let its runs end, then {version} takes over",
            )
        self._refuse_other(ecosystem, owner)

    def refuse_other(self, ecosystem: str) -> None:
        """Raise Conflict where the namespace belongs to another ecosystem; change nothing."""
        self._refuse_other(ecosystem, self.ecosystem())

    def _refuse_other(self, ecosystem: str, owner: str) -> None:
        if ecosystem and owner and owner != ecosystem:
            namespace = self._keys.namespace
            raise Conflict(
                f"this is ecosystem {ecosystem}, but the workers and runs in namespace {namespace!r} of "
                f"this Redis belong to ecosystem {owner}",
                f"give this one a namespace of its own: {SET_NAMESPACE}; or, "
                "where it is the same ecosystem, write the same `coordination.id` into both files; "
                f"or stop the workers of {owner} and let its runs end, then {ecosystem} takes over",
            )

    def ecosystem(self) -> str:
        """Return the id of the ecosystem that owns the namespace; empty if no valid one is recorded."""
        owner = self._redis.getrange(self._keys.ecosystem, 0, LONGEST_ID)
        return owner if re.fullmatch(ECOSYSTEM_ID, owner) else ""

    def refuse_clash(self, worker: Worker) -> None:
        """Raise Conflict where a worker of this host serves one of the repositories from another folder."""
        for clash in filter(None, (worker.clash(other) for other in self.workers())):
            raise Conflict(
                f"host {worker.host}: {clash}",
                "stop the other one (one that was killed is forgotten after three heartbeats); or, "
                "if this is another machine of the same name, give it one of its own: COORD_HOST",
            )

    def say(self, worker: Worker, now_ms: int, heartbeat: timedelta) -> None:
        """Write the record of a worker; it expires after MISSED_HEARTBEATS heartbeats."""
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.set(
                self._keys.worker(worker.id),
                worker.model_dump_json(exclude={"services"}),
                px=MISSED_HEARTBEATS * ms(heartbeat),
            )
            if worker.services:
                rows = {f"{worker.host} {repo}": f"{now_ms} {text}" for repo, text in worker.services.items()}
                pipeline.hset(self._keys.services, mapping=rows)
                pipeline.expire(self._keys.services, SERVICES_REMEMBERED)
            pipeline.zadd(self._keys.workers, {worker.id: now_ms})
            pipeline.zremrangebyscore(self._keys.workers, "-inf", now_ms - ms(REMEMBERED))
            pipeline.execute()

    def shorten(self, heartbeat: timedelta) -> None:
        """Shorten the lifetime of the records after the server's clock was set back: by the size of the step,
        a dead worker would look alive for too long.
        """
        longest_ms = MISSED_HEARTBEATS * ms(heartbeat)
        for worker_id in self._redis.zrange(self._keys.workers, 0, -1):
            if self._redis.pttl(self._keys.worker(worker_id)) > longest_ms:
                self._redis.pexpire(self._keys.worker(worker_id), longest_ms)

    def leave(self, worker: Worker) -> None:
        self._redis.delete(self._keys.worker(worker.id))
        self._redis.zrem(self._keys.workers, worker.id)

    def worker(self, worker_id: str) -> Worker | None:
        """Return a living worker; None if there is none of this id, or its record cannot be read."""
        row = self._redis.get(self._keys.worker(worker_id))
        return None if row is None else self._read(worker_id, row)

    def workers(self) -> tuple[Worker, ...]:
        """Return the workers with a recent heartbeat. A record that cannot be read is skipped: its worker
        writes it again.
        """
        ids = self._redis.zrange(self._keys.workers, 0, -1)
        rows = self._redis.mget([self._keys.worker(i) for i in ids]) if ids else []
        found = (
            self._read(worker_id, row) for worker_id, row in zip(ids, rows, strict=True) if row is not None
        )
        return tuple(worker for worker in found if worker is not None)

    def serving(self, repos: Collection[str]) -> tuple[Worker, ...]:
        """Return those of `workers` that can work in some of these repositories at present."""
        return tuple(worker for worker in self.workers() if not set(repos).isdisjoint(worker.fit))

    def services(self) -> Iterator[tuple[str, str, float, str]]:
        """Yield host, repository, age in seconds and JSON of the published states of services."""
        seconds, micros = self._redis.time()
        for field, row in self._redis.hgetall(self._keys.services).items():
            host, _, repo = field.rpartition(" ")
            at_ms, _, text = row.partition(" ")
            if at_ms.isascii() and at_ms.isdigit() and len(at_ms) < LONGEST_MS:
                age_s = max(0.0, seconds + micros / 1e6 - int(at_ms) / 1000)
                if age_s < SERVICES_REMEMBERED.total_seconds():
                    yield host, repo, age_s, text

    def replace_services(self, host: str, repo: str, text: str) -> None:
        """Replace the published states of a host's services of a repository, and keep their time; delete them
        for an empty text.
        """
        field = f"{host} {repo}"
        at_ms = (self._redis.hget(self._keys.services, field) or "").partition(" ")[0]
        if text and at_ms:
            self._redis.hset(self._keys.services, field, f"{at_ms} {text}")
        else:
            self._redis.hdel(self._keys.services, field)

    def _read(self, worker_id: str, row: str) -> Worker | None:
        try:
            return Worker.model_validate_json(row)
        except ValidationError as error:
            logger.warning(
                "the record of worker %s cannot be read: %s", worker_id, str(error).partition("\n")[0]
            )
            return None

    def answers(self, pid: int) -> bool:
        """Return whether a worker of this process id is alive, on any host."""
        return any(worker.pid == pid for worker in self.workers())

    def unserved(self, repos: Iterable[str]) -> Mapping[str, str]:
        """Return the repositories in which no worker can work, each with the wait reason as text."""
        workers = self.workers()
        served = {repo for worker in workers for repo in worker.fit}
        return {
            repo: waiting_for_worker(repo, workers) for repo in sorted(set(repos) - served - {MILESTONE_REPO})
        }

    def silent(self, worker_ids: Iterable[str]) -> Mapping[str, str]:
        """Return the workers without a recent heartbeat, each with the wait reason of their todos as text."""
        alive = {worker.id for worker in self.workers()}
        then = "it runs again" if alive else "the next started worker runs it"
        return {
            silent: f"{silent}, which does not answer: when its lease expires, {then}"
            for silent in set(worker_ids) - alive
        }


def waiting_for_worker(repo: str, workers: Iterable[Worker]) -> str:
    """Return `a worker for units: on host b there is no folder /srv/units`."""
    reasons = [f"on host {w.host} {w.unfit[repo]}" for w in workers if repo in w.unfit]
    return f"a worker for {repo}: {'; '.join(reasons) or 'none serves it'}"
