"""Keep the history of the worker's file up to date: forward its edits to the stream of events, and, on the
host that keeps the history of all machines, read the stream into it.

The journal is read only when it has changed. A worker without the right to write events (`restricted`) and a
worker without a file have nothing to do here. What cannot be done now is done in a later round: the journal and
the stream keep it, each up to its limit.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

import redis

from coordination.background import BackgroundService
from coordination.ecosystem.journal import Journal
from coordination.errors import CoordinationError
from coordination.events.stream import EventStream
from coordination.history.collect import collect
from coordination.history.forwarding import forward
from coordination.history.memory import DATABASE
from coordination.history.run_events import collect_stream
from coordination.history.store import HistoryStore
from coordination.operations.folder import state_folder
from coordination.runs.store import RunStore
from coordination.runs.views.run_figures import stream_source
from coordination.settings import Settings

LOOK_S = 2.0
COLLECT_S = 10.0

Stamp = tuple[int, int, int]
logger = logging.getLogger(__name__)


class HistoryService(BackgroundService):
    name = "history"
    interval_s = LOOK_S

    def __init__(self, store: RunStore, file: Path, settings: Settings) -> None:
        super().__init__()
        self._store, self._file, self._settings = store, file.resolve(), settings
        self._stream = EventStream(store.redis, settings.namespace)
        self._database = state_folder(file) / DATABASE
        self._collects = settings.history_host is not None and settings.keeps_history
        self._forwarded: Stamp | None = None
        self._collect_at = 0.0

    def run_once(self) -> int:
        """Forward new edits, and collect from time to time; return the number of forwarded events."""
        stamp, forwarded = self._stamp(), 0
        if stamp is not None and stamp != self._forwarded:
            forwarded = forward(self._file, self._stream)
            self._forwarded = stamp
        now = datetime.now(UTC)
        if self._collects and now.timestamp() >= self._collect_at:
            self._collect_at = now.timestamp() + COLLECT_S
            with HistoryStore(self._database) as history:
                collect(history, self._file)
                collect_stream(history, stream_source(self._store, self._stream, self._settings), now)
        return forwarded

    def failed(self, error: Exception) -> float:
        if not isinstance(error, redis.RedisError | CoordinationError | OSError):
            return super().failed(error)
        logger.log(
            logging.DEBUG if isinstance(error, redis.RedisError) else logging.WARNING,
            "the history of %s is brought up to date later: %s",
            self._file,
            error,
        )
        return COLLECT_S

    def _stamp(self) -> Stamp | None:
        """Return the state of the journal and of the file; None before the first edit by coord."""
        try:
            journal, file = Journal(self._file).path.stat(), self._file.stat()
        except OSError:
            return None
        return journal.st_size, journal.st_ino, file.st_mtime_ns
