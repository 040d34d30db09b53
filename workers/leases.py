"""Heartbeats of this worker and of its attempts, and the recovery of todos of dead workers on this machine.

**Leases.** A heartbeat renews all leases of the worker in one call, sends checkpoints, counts what agents
have used, and announces the worker. A lease that Redis no longer knows is lost: another worker may hold the
todo, so its command is stopped and nothing is settled. If Redis does not answer, no lease counts as lost:
commands continue, and the worker keeps trying to renew.

**Liveness.** A lease reveals only after `lease_ttl` that its worker is dead. On the same machine this is
known at once: each worker holds the lock (flock) of a file of its own, and the system releases that lock when
the process ends. A worker that gets the lock of another worker's file recovers the todos of that worker and
removes the file, so a restarted machine continues within seconds. A worker that is stopped or hangs keeps its
lock: its lease decides. The same holds for a worker on another machine, or with another state folder.

* Two workers look at once: one gets the lock. If it dies meanwhile, the file is still there for the next one.
* A worker gets the id of a dead one (its pid, which in a container is always the same): when it signs on,
  nothing can run under its id yet, so all todos under this id were the dead worker's.
* A file is removed while its next owner opens it: the owner sees that its file is gone, and opens it anew.
* Redis does not answer: the file stays until the todos are recovered.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from coordination.backend.keys import member
from coordination.background import BackgroundService
from coordination.errors import Conflict
from coordination.files import is_removed, lock, make_private, open_lock, try_lock
from coordination.git import why_unusable
from coordination.runs.attempt_store import AttemptStore, Grant
from coordination.runs.dispatch import Dispatcher
from coordination.runs.store import RunStore
from coordination.runs.worker_registry import Worker, WorkerRegistry
from coordination.services.host import ServiceHost
from coordination.settings import Settings
from workers.config import ServedRepositories, WorkerConfig

if TYPE_CHECKING:
    from workers.attempt.output import Checkpoint
    from workers.attempt.usage import UsageMeter

REDIS_AWAY_S = 0.5
FOLDER = "alive"
"""Folder of the locked files, in the state folder."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunningTodo:
    """A todo that runs here under a lease, and the callbacks that stop it."""

    grant: Grant
    lost: Callable[[], None]
    stop: Callable[[], None]
    checkpoint: Checkpoint
    usage: UsageMeter


class Leases(BackgroundService):
    """Send a heartbeat at each interval, and at once after `wake` (a run was cancelled)."""

    name = "leases"
    first_at_once = True
    join_s = 0.0
    """A heartbeat may wait for Redis, and no later step of a stop depends on it."""

    def __init__(
        self,
        store: AttemptStore,
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
        self._services = ServiceHost(config.state)
        self._lease = config.settings.lease_ttl
        # A lease is renewed three times before it expires, whatever the two settings are.
        self._beat = min(config.settings.heartbeat, config.settings.lease_ttl / 3)
        self.interval_s = self._beat.total_seconds()
        self._shortage = ""
        self._running: dict[str, RunningTodo] = {}
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
        self,
        grant: Grant,
        *,
        lost: Callable[[], None],
        stop: Callable[[], None],
        checkpoint: Checkpoint,
        usage: UsageMeter,
    ) -> None:
        with self._guard:
            key = member(grant.run_id, grant.todo_id)
            self._running[key] = RunningTodo(grant, lost, stop, checkpoint, usage)

    def remove(self, grant: Grant) -> None:
        with self._guard:
            running = self._running.get(member(grant.run_id, grant.todo_id))
            if running is not None and running.grant.fence == grant.fence:
                del self._running[member(grant.run_id, grant.todo_id)]

    def run_once(self) -> tuple[list[str], list[str]]:
        """Send one heartbeat; return the members whose leases were lost, and those to be stopped."""
        with self._guard:
            running = dict(self._running)
        self.announce()
        if not running:
            return [], []
        fences = {name: todo.grant.fence for name, todo in running.items()}
        lost, stopped = self._store.renew(fences, self._lease)
        for name in lost:
            running[name].lost()
        for name in stopped:
            running[name].stop()
        for name in running.keys() - lost:
            self._send_checkpoint(running[name])
            running[name].usage.count()
        return lost, stopped

    def failed(self, error: Exception) -> float:
        """Continue after an error: without heartbeats, this worker would lose all its todos."""
        if not isinstance(error, redis.RedisError):
            return super().failed(error)
        logger.warning("Redis does not answer the heartbeat: %s", error)
        return min(self.interval_s, REDIS_AWAY_S)

    def announce(self) -> None:
        """Write the record of this worker: that it is alive, and which repositories it serves."""
        before_s = time.time()
        now_ms = self._store.now_ms()
        offset_ms = round((before_s + time.time()) * 500 - now_ms)
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
        published = self._services.published()
        current["services"] = {repo: text for repo, text in published.items() if repo in places}
        self._registry.say(self._worker.model_copy(update=current), now_ms, self._beat)

    def _send_checkpoint(self, todo: RunningTodo) -> None:
        """Send the output that the todo has written since the last heartbeat."""
        if written := todo.checkpoint.unsent():
            self._store.checkpoint(todo.grant, written)
            todo.checkpoint.sent(written)


class LocalLiveness(BackgroundService):
    """Look every second for dead workers of this machine. A worker that may not recover todos (`restricted`,
    or `reaper` off) only holds its own lock.
    """

    name = "liveness"
    join_s = 0.0

    def __init__(
        self, state: Path, worker_id: str, store: RunStore, dispatcher: Dispatcher, settings: Settings
    ) -> None:
        super().__init__()
        self._folder = state / FOLDER
        self._own = self._folder / worker_id
        self._store = store
        self._dispatcher = dispatcher
        self._lost_leases = settings.lost_leases
        self._recovers = settings.reaper and not settings.restricted
        self._lock: int | None = None

    def sign(self) -> None:
        """Take the lock of this worker before it consumes messages. Raises redis.RedisError.

        Without a writable folder only speed is lost: leases still reveal that this worker died.
        """
        if self._lock is None:
            try:
                make_private(self._folder)
                self._lock = _locked(self._own)
            except OSError as error:
                logger.warning("other workers of this machine cannot see that this one lives: %s", error)
        if self._recovers:
            self._recover(self._own.name)

    def start(self) -> None:
        if self._recovers:
            super().start()

    def stop(self) -> None:
        super().stop()
        if self._lock is not None:
            self._own.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def run_once(self) -> list[str]:
        """Recover the todos of dead workers; return those workers."""
        dead = []
        for file in self._others():
            with _if_free(file) as free:
                if free:
                    self._recover(file.name)
                    file.unlink(missing_ok=True)
                    dead.append(file.name)
        return dead

    def failed(self, error: Exception) -> float:
        if not isinstance(error, redis.RedisError | OSError):
            return super().failed(error)
        logger.warning("cannot look for workers that died, trying again: %s", error)
        return self.interval_s

    def _others(self) -> Iterator[Path]:
        """Yield the files of other workers of this host: machines may share the folder."""
        host = self._own.name.partition("@")[2]
        with suppress(FileNotFoundError):
            yield from (
                file
                for file in self._folder.iterdir()
                if file != self._own and file.name.endswith(f"@{host}")
            )

    def _recover(self, worker: str) -> None:
        for run_id, todo_id in self._store.expired(sys.maxsize):
            reply = self._store.lose(run_id, todo_id, self._lost_leases, dead=worker)
            if reply.word != "alive":
                logger.warning("%s of run %s: %s has died: %s", todo_id, run_id, worker, reply.word)
                self._dispatcher.follow(reply)


def _locked(path: Path) -> int:
    """Open and lock a file; return its descriptor."""
    while True:
        descriptor = open_lock(path)
        lock(descriptor)
        if not is_removed(descriptor, path):
            return descriptor
        os.close(descriptor)


@contextmanager
def _if_free(path: Path) -> Iterator[bool]:
    """Hold the lock of a file if no other process does; yield whether this one has it."""
    try:
        descriptor = open_lock(path, create=False)
    except FileNotFoundError:
        yield False
        return
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)
