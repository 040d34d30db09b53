"""Send heartbeats: renew all leases of this worker in one call, send checkpoints, announce the worker.

A lease that Redis no longer knows is lost: another worker may hold the todo, so its command is stopped and
nothing is settled. If Redis does not answer, no lease counts as lost: commands continue, and the worker keeps
trying to renew.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import redis

from coordination.backend.keys import member
from coordination.background import BackgroundService
from coordination.errors import Conflict
from coordination.git import why_unusable
from coordination.runs.replies import Grant
from coordination.runs.store import RunStore
from coordination.runs.worker_registry import Worker, WorkerRegistry
from coordination.services.view import states_of
from workers.attempt.output import Checkpoint
from workers.config import ServedRepositories, WorkerConfig

REDIS_AWAY_S = 0.5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldLease:
    """A todo that runs here, and how to stop it."""

    grant: Grant
    lost: Callable[[], None]
    stop: Callable[[], None]
    checkpoint: Checkpoint


class Leases(BackgroundService):
    """Send a heartbeat at each interval, and at once after `wake` (somebody cancelled a run)."""

    name = "leases"
    first_at_once = True
    join_s = 0.0
    """A heartbeat may wait for Redis; nothing that follows the stop needs its end."""

    def __init__(
        self,
        store: RunStore,
        registry: WorkerRegistry,
        worker: Worker,
        config: WorkerConfig,
        served: ServedRepositories,
    ) -> None:
        super().__init__()
        self._store = store
        self._worker = worker
        self._registry = registry
        self._served = served
        self._ecosystem_id = config.ecosystem_id
        self._state = config.state
        self._lease = config.settings.lease_ttl
        # A lease is renewed three times before it expires, whatever the two settings are.
        self._beat = min(config.settings.heartbeat, config.settings.lease_ttl / 3)
        self.interval_s = self._beat.total_seconds()
        self._shortage = ""
        self._held: dict[str, HeldLease] = {}
        self._guard = threading.Lock()

    def sign_on(self) -> None:
        """Make this worker known before its first delivery. Raises Conflict where it must not be."""
        self._registry.meet(self._worker.version, self._beat, self._ecosystem_id)
        self.announce()
        try:
            self._registry.refuse_clash(self._worker)
        except Conflict:
            self.leave()
            raise

    def leave(self) -> None:
        try:
            self._registry.leave(self._worker)
        except redis.RedisError as error:
            logger.warning("could not sign off, the record expires by itself: %s", error)

    def add(
        self, grant: Grant, *, lost: Callable[[], None], stop: Callable[[], None], checkpoint: Checkpoint
    ) -> None:  # fmt: skip
        with self._guard:
            self._held[member(grant.run_id, grant.todo_id)] = HeldLease(grant, lost, stop, checkpoint)

    def remove(self, grant: Grant) -> None:
        with self._guard:
            held = self._held.get(member(grant.run_id, grant.todo_id))
            if held is not None and held.grant.fence == grant.fence:
                del self._held[member(grant.run_id, grant.todo_id)]

    def run_once(self) -> tuple[list[str], list[str]]:
        """Send one heartbeat; return the members whose leases were lost, and those to be stopped."""
        with self._guard:
            held = dict(self._held)
        self.announce()
        if not held:
            return [], []
        lost, stopped = self._store.renew({name: h.grant.fence for name, h in held.items()}, self._lease)
        for name in lost:
            held[name].lost()
        for name in stopped:
            held[name].stop()
        for name in held.keys() - lost:
            self._send_checkpoint(held[name])
        return lost, stopped

    def failed(self, error: Exception) -> float:
        """Continue after an error: without heartbeats, this worker would lose all its todos."""
        if not isinstance(error, redis.RedisError):
            return super().failed(error)
        logger.warning("Redis does not answer the heartbeat: %s", error)
        return min(self.interval_s, REDIS_AWAY_S)

    def announce(self) -> None:
        """Write the record of this worker: it is alive, and these are the repositories that it serves now."""
        asked = time.time()
        now_ms = self._store.now_ms()
        offset_ms = round((asked + time.time()) * 500 - now_ms)
        places = {repo: str(path) for repo, path in self._served.items()}
        facts = {"repos": tuple(places), "places": places, "jobs": self._served.jobs}
        unfit = {repo: why for repo in places if (why := self._served.unfit(repo))}
        fit = (repo for repo in places if repo not in unfit)
        broken = {repo: why for repo in fit if (why := why_unusable(Path(places[repo])))}
        shortage = self._served.disk_shortage()
        if shortage and shortage != self._shortage:
            logger.warning("%s: no todo starts until there is more room", shortage)
        self._shortage = shortage
        current = {
            **facts, "unfit": unfit, "broken": broken, "short": shortage, "clock_offset_ms": offset_ms
        }  # fmt: skip
        current["services"] = {repo: text for repo, text in states_of(self._state).items() if repo in places}
        self._registry.say(self._worker.model_copy(update=current), now_ms, self._beat)

    def _send_checkpoint(self, held: HeldLease) -> None:
        """Send what the todo has written since the last heartbeat."""
        if written := held.checkpoint.unsent():
            self._store.checkpoint(held.grant, written)
            held.checkpoint.sent(written)
