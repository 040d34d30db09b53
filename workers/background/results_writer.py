"""Write the results of ended runs into the ecosystem file of this worker, where nobody else has.

A process that follows a run writes its results as soon as it ends. If there is none (`sweep --detach`, a
closed terminal, a killed process), a worker on the machine of the file does the same some seconds later, by
the same edit as `coord sync`: under the lock of the file, and in one piece or not at all. Only runs that were
submitted from exactly this file are listed for it.

States: Redis lists a run from its end until its results are written (runs/write_back.py).

* The file is invalid, read-only, locked by another edit, or gone: the results wait. The reason is in the
  log and in `coord show-run`. The file is tried again when it has changed, and otherwise after 2 s up to a
  minute.
* Another process writes the same results: the second one finds them there.
* The worker dies between the edit and the entry in Redis: the next one finds them there.
* A rollback ends the run once more: it is listed once more.
* The file belongs to another user: it is left to that user's worker or `coord sync`.
* Signatures are required and do not cover a result: it is left out, by `coord sync`, too.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import redis

from coordination.background import BackgroundService
from coordination.ecosystem.changes import RunOutcome
from coordination.errors import CoordinationError, Unreadable
from coordination.runs.store import RunStore
from coordination.runs.write_back import file_id, keep_failure, write_results

GRACE_MS = 3000
"""Time for the process that follows a run to write its results, and to tell its user about them."""
FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 60.0

Stamp = tuple[int, int, int] | None
logger = logging.getLogger(__name__)


class ResultsWriter(BackgroundService):
    name = "results-writer"
    interval_s = 1.0

    def __init__(
        self,
        store: RunStore,
        path: Path,
        confirm: Callable[[str, str, RunOutcome], tuple[RunOutcome, str]] = lambda *found: (found[-1], ""),
    ) -> None:
        """`confirm` returns what may be written of the outcome of a run into the file with this digest, and
        why that is not all of it.
        """
        super().__init__()
        self._confirm = confirm
        self._store = store
        self._path = path
        self._file = file_id(path)
        self._pause_s = 0.0
        self._again_at = 0.0
        self._seen: Stamp = None
        """The file at the last failure."""

    def run_once(self) -> list[str]:
        """Write the results of the runs that ended some seconds ago; return the runs."""
        return self._write(GRACE_MS)

    def finish(self) -> None:
        """Write what is there before the worker stops: the next one may come much later."""
        self._write(0)

    def failed(self, error: Exception) -> float:
        if not isinstance(error, redis.RedisError):
            return super().failed(error)
        logger.debug("results are written when Redis is back: %s", error)
        return self.interval_s

    def _write(self, grace_ms: int) -> list[str]:
        listed = self._store.redis.zrange(self._store.keys.unwritten(self._file), 0, -1, withscores=True)
        if not listed or (time.monotonic() < self._again_at and self._stamp() == self._seen):
            return []
        now_ms, written, waiting = self._store.now_ms(), list[str](), False
        for run_id, ended_ms in listed:
            if 0 <= now_ms - ended_ms < grace_ms:  # less than 0: the clock was set back
                continue
            if not self._store.redis.exists(self._store.keys.run(run_id).meta):
                self._store.redis.zrem(self._store.keys.unwritten(self._file), run_id)
                continue
            try:
                self._write_results(run_id)
            except Unreadable as error:
                waiting = True
                self._report(run_id, error)
            except (CoordinationError, OSError) as error:
                self._report(run_id, error)
                return written
            else:
                written.append(run_id)
        if not waiting:
            self._pause_s = self._again_at = 0.0
        return written

    def _write_results(self, run_id: str) -> None:
        if self._path.stat().st_uid != os.geteuid():
            raise CoordinationError(
                f"{self._path} belongs to another user than this worker",
                f"that user writes the results: coord sync {run_id}",
            )
        confirm = partial(self._confirm, run_id, self._file)
        written = write_results(self._store, run_id, self._path, self._file, confirm)
        if written.all:
            logger.info("results of run %s written into %s: %s", run_id, self._path, ", ".join(written.all))
        if written.refused:
            logger.warning(
                "results of run %s are not written into %s: %s", run_id, self._path, written.refused
            )

    def _report(self, run_id: str, error: CoordinationError | OSError) -> None:
        """Log the reason, keep it for people who look at the run, and pause before the next try."""
        reason = error.message if isinstance(error, CoordinationError) else f"{self._path}: {error.strerror}"
        logger.warning("the results of run %s wait: %s", run_id, reason)
        keep_failure(self._store, run_id, reason)
        self._pause_s = min(max(FIRST_PAUSE_S, self._pause_s * 2), LONGEST_PAUSE_S)
        self._again_at, self._seen = time.monotonic() + self._pause_s, self._stamp()

    def _stamp(self) -> Stamp:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_ctime_ns, found.st_size
