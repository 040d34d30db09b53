"""The leases of this worker, renewed all in one call; what its todos have written so far; and the word that says the worker is there.

A lease that Redis does not know any more is lost: somebody else may hold the todo, so its command is stopped and nothing of it
is settled. A Redis that does not answer is no lost lease: commands go on, and so do the attempts to renew.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import redis

from coordination.backend.keys import member
from coordination.errors import Conflict
from coordination.runs.presence import Presence, Worker
from coordination.runs.records import Grant
from coordination.runs.store import RunStore
from workers.checkpoints import Checkpoint

if TYPE_CHECKING:
    from workers.app import WorkerConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Held:
    grant: Grant
    lost: Callable[[], None]
    stop: Callable[[], None]
    checkpoint: Checkpoint


class Leases:
    """A thread that renews every heartbeat, and at once when it is asked to (somebody cancelled a run)."""

    def __init__(self, store: RunStore, presence: Presence, worker: Worker, config: WorkerConfig) -> None:
        self._store = store
        self._worker = worker
        self._presence = presence
        self._config = config
        self._lease = config.settings.lease_ttl
        # A lease is renewed three times before it runs out, however the two settings are set.
        self._beat = min(config.settings.heartbeat, config.settings.lease_ttl / 3)
        self._short = ""
        self._held: dict[str, Held] = {}
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._asked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def sign_on(self) -> None:
        """Be known before the first delivery; raises Conflict where this worker must not be."""
        self._presence.meet(self._worker.version, self._beat, self._config.ecosystem_id)
        self.say()
        try:
            self._presence.refuse_clash(self._worker)
        except Conflict:
            self.leave()
            raise

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._asked.set()

    def beat(self) -> None:
        """Do not wait for the next heartbeat."""
        self._asked.set()

    def leave(self) -> None:
        try:
            self._presence.leave(self._worker)
        except redis.RedisError as error:
            logger.warning("could not sign off, the record expires by itself: %s", error)

    def add(
        self, grant: Grant, *, lost: Callable[[], None], stop: Callable[[], None], checkpoint: Checkpoint
    ) -> None:  # fmt: skip
        with self._guard:
            self._held[member(grant.run_id, grant.todo_id)] = Held(grant, lost, stop, checkpoint)

    def remove(self, grant: Grant) -> None:
        with self._guard:
            held = self._held.get(member(grant.run_id, grant.todo_id))
            if held is not None and held.grant.fence == grant.fence:
                del self._held[member(grant.run_id, grant.todo_id)]

    def run_once(self) -> tuple[list[str], list[str]]:
        """One heartbeat; returns the members that were lost, and those asked to stop."""
        with self._guard:
            held = dict(self._held)
        self.say()
        if not held:
            return [], []
        lost, stopped = self._store.renew({name: h.grant.fence for name, h in held.items()}, self._lease)
        for name in lost:
            logger.warning("the lease of %s is lost: its command is stopped", name)
            held[name].lost()
        for name in stopped:
            held[name].stop()
        for name in held.keys() - lost:
            self._carry(held[name])
        return lost, stopped

    def _carry(self, held: Held) -> None:
        """What the todo has written since the last heartbeat."""
        if written := held.checkpoint.news():
            self._store.checkpoint(held.grant, written)
            held.checkpoint.told(written)

    def say(self) -> None:
        """That this worker is there, and what it serves now."""
        asked = time.time()
        now_ms = self._store.now_ms()
        offset_ms = round((asked + time.time()) * 500 - now_ms)
        places = {repo: str(path) for repo, path in self._config.places.items()}
        facts = {"repos": tuple(places), "places": places, "jobs": self._config.jobs}
        unfit = {repo: why for repo in places if (why := self._config.unfit(repo))}
        short = self._config.short()
        if short and short != self._short:
            logger.warning("%s: no todo is begun until there is more", short)
        self._short = short
        told = {**facts, "unfit": unfit, "short": short, "clock_offset_ms": offset_ms}
        worker = self._worker.model_copy(update=told)
        self._presence.say(worker, now_ms, self._beat)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._asked.clear()  # before looking: who asks meanwhile gets another one
            try:
                self.run_once()
                self._asked.wait(self._beat.total_seconds())
            except redis.RedisError as error:
                logger.warning("Redis does not answer the heartbeat: %s", error)
                self._stopping.wait(min(self._beat, timedelta(seconds=0.5)).total_seconds())
            except Exception:
                # Without heartbeats every todo of this worker would be taken from it.
                logger.exception("a heartbeat failed; the next one follows")
                self._stopping.wait(self._beat.total_seconds())
