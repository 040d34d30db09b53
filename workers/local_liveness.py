"""Which workers of this machine live: each holds a flock on a file of its own for as long as it does, and so does nobody else.

A lease says only after `lease_ttl` that its worker is gone. On the worker's own machine that is known at once, since the system
lets go of a flock with its holder: whoever gets the lock of another worker's file takes from that one what it ran, so that a
restarted machine goes on within seconds, and removes the file. A worker that is stopped or hangs holds its lock, and is left
to its lease; so is one whose machine is gone, or whose state folder is another.

What happens on each failure

* Two look at once: one gets the flock. It dies meanwhile: the file is still there, for the next one that looks.
* A worker gets the id of a dead one (its pid, which in a container is always the same): by its own id nothing can be running
  yet when it signs, so whatever is was the dead one's.
* A file is removed while its next owner opens it: who has the flock of a file that is not there any more opens it anew.
* Redis is away: the file stays until the todos were taken.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import redis

from coordination.files import make_private
from coordination.runs.dispatch import Dispatcher
from coordination.runs.store import RunStore
from coordination.settings import Settings

FOLDER = "alive"
LOOK_S = 1.0

logger = logging.getLogger(__name__)


class LocalLiveness:
    """A service: looks every second. A worker that is to repair nothing, or may not, is only seen by others."""

    def __init__(
        self, state: Path, worker_id: str, store: RunStore, dispatcher: Dispatcher, settings: Settings
    ) -> None:
        self._folder = state / FOLDER
        self._own = self._folder / worker_id
        self._store = store
        self._dispatcher = dispatcher
        self._lost_leases = settings.lost_leases
        self._repairs = settings.reaper and not settings.restricted
        self._lock: int | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="roll", daemon=True)

    def sign(self) -> None:
        """Before anything is consumed. Raises Redis' errors; a folder that cannot be written costs us nothing but speed."""
        if self._lock is None:
            try:
                make_private(self._folder)
                self._lock = _locked(self._own)
            except OSError as error:
                logger.warning("that this worker lives is not seen on this machine: %s", error)
        if self._repairs:
            self._take_from(self._own.name)

    def start(self) -> None:
        if self._repairs:
            self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._lock is not None:
            self._own.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def run_once(self) -> list[str]:
        """Returns the workers that were found dead."""
        dead = []
        for file in self._others():
            with _if_free(file) as free:
                if free:
                    self._take_from(file.name)
                    file.unlink(missing_ok=True)
                    dead.append(file.name)
        return dead

    def _others(self) -> Iterator[Path]:
        """Workers of this host: a name of another one may stand in a folder that machines share."""
        host = self._own.name.partition("@")[2]
        with suppress(FileNotFoundError):
            yield from (file for file in self._folder.iterdir() if file != self._own and file.name.endswith(f"@{host}"))

    def _take_from(self, worker: str) -> None:
        for run_id, todo_id in self._store.expired(sys.maxsize):
            reply = self._store.lose(run_id, todo_id, self._lost_leases, dead=worker)
            if reply.word != "alive":
                logger.warning("%s of run %s: %s has died: %s", todo_id, run_id, worker, reply.word)
                self._dispatcher.follow(reply)

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            try:
                self.run_once()
            except (redis.RedisError, OSError) as error:
                logger.warning("cannot look after workers that died, trying again: %s", error)
            except Exception:
                logger.exception("looking after workers that died failed; it goes on")


def _locked(path: Path) -> int:
    """The file, open and locked for as long as it is."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.fstat(lock).st_ino == path.stat().st_ino:
                return lock
        os.close(lock)


@contextmanager
def _if_free(path: Path) -> Iterator[bool]:
    """Whether nobody holds the file; then it is held for the time of the block."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    with closing(os.fdopen(lock)):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
