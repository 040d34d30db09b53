"""What nobody is there to do: fire timers, take up what lost its worker, send again what was lost, open a level that a crash
left behind.

Every worker runs a Keeper; the one that holds the lock `keeper` acts. Two acting at once (the lock's holder was frozen) would
only repeat steps that are idempotent. Timers are fired by the same thread with or without the reaper, since retries are no
recovery.

Redis out of reach is not a dead worker. After an error, and after a restart of the server, nobody is declared lost until
Redis has answered for one whole lease: by then every living worker has renewed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import redis

from coordination.errors import LockError, Unreachable
from coordination.locks import Lock, LockManager
from coordination.planner.delivery import Delivery
from coordination.runs.dispatch import Dispatcher
from coordination.runs.expiry import Expiry
from coordination.runs.presence import Presence
from coordination.runs.store import RunStore
from coordination.settings import Settings
from coordination.wire.trouble import cannot_write

TICK_S = 0.5
RESEND_AFTER = timedelta(seconds=5)
RESEND_AT_ONCE = 200
LEVEL_GRACE_MS = 5000
"""How long the join of a level's chord may take before the reaper opens the next level in its stead."""

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Swept:
    """What one round did."""

    fired: int = 0
    lost: list[tuple[str, str]] = field(default_factory=list)
    stranded: list[str] = field(default_factory=list)
    resent: int = 0
    advanced: list[tuple[str, int]] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)


class Reaper:
    def __init__(self, store: RunStore, dispatcher: Dispatcher, settings: Settings) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._settings = settings
        self._presence = Presence(store.redis, store.keys)
        self._trusted_from = time.monotonic()
        self._unreadable: set[str] = set()

    def redis_was_away(self) -> None:
        self._trusted_from = time.monotonic() + self._settings.lease_ttl.total_seconds()

    def run_once(self) -> Swept:
        swept = Swept()
        server = self._store.redis.info("server")
        back_for_s = int(server["uptime_in_seconds"])
        self._see_epoch(server["run_id"], back_for_s)
        runs = self._store.live_runs()
        if time.monotonic() >= self._trusted_from and back_for_s >= self._settings.lease_ttl.total_seconds():
            self._reap(swept)
            self._strand(runs, swept)
        for run_id in runs:
            with self.apart(run_id):
                self._resend(run_id, swept)
                self._advance(run_id, swept)
        return swept

    @contextmanager
    def apart(self, run_id: str) -> Iterator[None]:
        """A run that cannot be read (damaged by hand, of another version) must not hold up the others. Said once."""
        try:
            yield
        except (redis.ResponseError, ValueError) as error:
            if isinstance(error, redis.ResponseError) and cannot_write(error):
                raise
            if run_id not in self._unreadable:
                logger.error("run %s cannot be carried on, its records in Redis are damaged: %s", run_id, error)
            self._unreadable.add(run_id)

    def _reap(self, swept: Swept) -> None:
        for run_id, todo_id in self._store.expired(self._store.now_ms()):
            with self.apart(run_id):
                reply = self._store.lose(run_id, todo_id, self._settings.lost_leases)
                if reply.word != "alive":
                    logger.warning("%s of run %s lost its worker: %s", todo_id, run_id, reply.word)
                    swept.lost.append((run_id, todo_id))
                self._dispatcher.follow(reply)

    def _strand(self, runs: Iterable[str], swept: Swept) -> None:
        """What is due on a host that is gone waits and says so; what waited for a host that is back goes on."""
        served = [(repo, worker.host) for worker in self._presence.workers() for repo in worker.repos]
        for run_id in runs:
            with self.apart(run_id):
                reply = self._store.strand(run_id, served)
                if reply.word == "stranded":
                    swept.stranded.append(run_id)
                self._dispatcher.follow(reply)

    def _resend(self, run_id: str, swept: Swept) -> None:
        reply = self._store.resend(run_id, RESEND_AFTER, RESEND_AT_ONCE)
        # A message that still stands in its queue is not lost; nobody has come for it yet.
        empty = {q for q in {self._queue(d) for d in reply.sends} if not self._store.redis.llen(q)}
        lost = tuple(d for d in reply.sends if self._queue(d) in empty)
        self._dispatcher.send(lost)
        swept.resent += len(lost)

    def _queue(self, delivery: Delivery) -> str:
        return self._store.keys.queue(delivery.repo, delivery.host)

    def _advance(self, run_id: str, swept: Swept) -> None:
        meta = self._store.keys.run(run_id).meta
        level, settled_at = self._store.redis.hmget(meta, ["level", "level_settled_at"])
        if settled_at is None or level is None or self._store.now_ms() - int(settled_at) < LEVEL_GRACE_MS:
            return
        if self._dispatcher.advance(run_id, int(level), "reaper").word == "advanced":
            swept.advanced.append((run_id, int(level)))

    def _see_epoch(self, server_id: str, back_for_s: int) -> None:
        """Another server process answers: acknowledged writes may be gone (at most 2 s of them). Made visible, and counted."""
        began_ms = self._store.now_ms() - (back_for_s + 1) * 1000  # Redis tells whole seconds
        if self._store.new_epoch(server_id, began_ms):
            logger.warning("Redis was restarted: leases are trusted again after %s", self._settings.lease_ttl)
            self.redis_was_away()


class Keeper:
    """The thread in every worker; at most one acts at a time."""

    def __init__(self, store: RunStore, dispatcher: Dispatcher, settings: Settings, *, label: str) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._settings = settings
        self._reaper = Reaper(store, dispatcher, settings)
        self._expiry = Expiry(store, settings.keep_runs)
        self._locks = LockManager(store.redis, settings.namespace)
        self._lock: Lock | None = None
        self._label = label
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def leads(self) -> bool:
        """Since its last round, and until the next."""
        return self._lock is not None

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():  # a worker may be told to stop before Redis has answered it once
            self._thread.join(timeout=5)

    def run_once(self) -> Swept:
        """One round, if this keeper leads."""
        if not self._leads():
            return Swept()
        swept = self._reaper.run_once() if self._settings.reaper else Swept()
        for run_id, todo_id in self._store.due(self._store.now_ms()):
            with self._reaper.apart(run_id):
                reply = self._store.fire(run_id, todo_id)
                self._dispatcher.follow(reply)
                if reply.word == "settled":
                    self._dispatcher.open_level_after(run_id, todo_id)
                swept.fired += 1
        swept.forgotten = self._expiry.run_when_due()
        return swept

    def _leads(self) -> bool:
        if self._lock is not None and self._lock.renew():
            return True
        try:
            # Renewed by hand: a keeper that hangs must lose the lead.
            self._lock = self._locks.acquire(
                "keeper", ttl=timedelta(seconds=2), wait=timedelta(0), owner=self._label, keep=False
            )
        except LockError:
            self._lock = None
        return self._lock is not None

    def _run(self) -> None:
        while not self._stopping.wait(TICK_S):
            self._guarded(self.run_once)
        if self._lock is not None:
            self._guarded(self._lock.release)

    def _guarded(self, deed: Callable[[], object]) -> None:
        try:
            deed()
        except (redis.RedisError, Unreachable) as error:
            logger.warning("Redis does not answer the keeper: %s", error)
            self._reaper.redis_was_away()
        except Exception:
            # A keeper that ended would leave every run of every worker without its timers.
            logger.exception("the keeper's round failed; it goes on")
