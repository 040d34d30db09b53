"""Liveness of the workers of this machine: each holds the lock of a file of its own for as long as it lives.

A lease says only after `lease_ttl` that its worker is gone. On the worker's own machine that is known at
once, since the system ends a flock with its process: a worker that gets the lock of another one's file
recovers the todos of that one and removes the file, so that a restarted machine goes on within seconds. A
worker that is stopped or hangs keeps its lock, and is left to its lease; so is one whose machine is gone, or
whose state folder is another.

Failures

* Two workers look at once: one gets the lock. It dies meanwhile: the file is still there, for the next one
  that looks.
* A worker gets the id of a dead one (its pid, which in a container is always the same): by its own id nothing
  can be running yet when it signs, so what runs was the dead one's.
* A file is removed while its next owner opens it: an owner whose file is not there any more opens it anew.
* Redis is away: the file stays until the todos are recovered.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis

from coordination.background import BackgroundService
from coordination.files import is_removed, lock, make_private, open_lock, try_lock
from coordination.runs.dispatch import Dispatcher
from coordination.runs.store import RunStore
from coordination.settings import Settings

FOLDER = "alive"

logger = logging.getLogger(__name__)


class LocalLiveness(BackgroundService):
    """Look every second for workers that died.

    A worker without the right to recover todos is only seen by others.
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
        """Take the own lock before anything is consumed. Raises Redis' errors.

        A folder that cannot be written costs speed alone: leases still tell that this worker died.
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
        """Yield the files of workers of this host.

        A folder that machines share may hold those of another one.
        """
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
    """Return the file, open and locked."""
    while True:
        descriptor = open_lock(path)
        lock(descriptor)
        if not is_removed(descriptor, path):
            return descriptor
        os.close(descriptor)


@contextmanager
def _if_free(path: Path) -> Iterator[bool]:
    """Hold the lock of a file if no other process does; yields whether it is held."""
    try:
        descriptor = open_lock(path, create=False)
    except FileNotFoundError:
        yield False
        return
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)
