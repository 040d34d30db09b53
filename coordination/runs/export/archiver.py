"""Write ended runs as files to a folder of this machine, before Redis deletes them.

A thread writes each batch, because a large run takes longer than a maintenance leader may hang; it is no
`BackgroundService`, because it ends with its batch. A run that cannot be written is logged once and tried
again; it is deleted only when its file is whole and on disk.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import redis

from coordination.errors import CoordinationError, NotFound
from coordination.files import remove_unfinished
from coordination.runs.export.document import document_of
from coordination.runs.export.file import save
from coordination.runs.store import RunStore

AGAIN_AFTER_S = 60.0

logger = logging.getLogger(__name__)


class RunArchiver:
    def __init__(self, store: RunStore, folder: Path, again_after_s: float = AGAIN_AFTER_S) -> None:
        self._store = store
        self._folder = folder
        self._again_after_s = again_after_s
        self._guard = threading.Lock()
        self._kept: set[str] = set()
        self._said: dict[str, str] = {}
        self._next_try = 0.0
        self._thread: threading.Thread | None = None

    def keep(self, runs: Sequence[str]) -> list[str]:
        """Return the runs that are archived. The others are being written, or will be: ask again."""
        with self._guard:
            self._kept &= set(runs)
            missing = [run_id for run_id in runs if run_id not in self._kept]
        busy = self._thread is not None and self._thread.is_alive()
        if missing and not busy and time.monotonic() >= self._next_try:
            self._thread = threading.Thread(
                target=self._write_all, args=[missing], name="archiver", daemon=True
            )
            self._thread.start()
        return [run_id for run_id in runs if run_id not in missing]

    def file_of(self, run_id: str) -> Path:
        return self._folder / f"{run_id}.json.gz"

    def _write_all(self, runs: Collection[str]) -> None:
        for run_id in runs:
            try:
                remove_unfinished(self.file_of(run_id))
                save(document_of(self._store, run_id), self.file_of(run_id))
            except NotFound:  # it has no records any more
                self._note(run_id)
            except (CoordinationError, redis.RedisError) as error:
                self._next_try = time.monotonic() + self._again_after_s
                self._say(run_id, error)
                if isinstance(error.__cause__, OSError) or isinstance(
                    error, redis.ConnectionError | redis.TimeoutError
                ):
                    return  # the folder or Redis fails: the next run would fail too
            else:
                self._note(run_id)

    def _note(self, run_id: str) -> None:
        self._said.pop(run_id, None)
        with self._guard:
            self._kept.add(run_id)

    def _say(self, run_id: str, error: Exception) -> None:
        words = str(getattr(error, "message", error))
        if self._said.get(run_id) != words:
            logger.error(
                "run %s is kept although keep_runs is over, because it cannot be exported: %s", run_id, words
            )
        self._said[run_id] = words
