"""Keep the history of the worker's file up to date: forward its edits to the stream of events, and read the
stream into the history, if that is kept on this host and no other host can have it: with the embedded server,
or as `history_host`.

The journal is read only when it has changed. A worker without the right to write events (`restricted`) and a
worker without a file have nothing to do here. What cannot be done now is done in a later round: the journal
and the stream keep it, each up to its limit.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from pathlib import Path

import redis

from coordination.backend.keys import Keys
from coordination.background import BackgroundService
from coordination.ecosystem.journal import Journal
from coordination.errors import CoordinationError
from coordination.history.collect import collect, collect_stream, forward
from coordination.history.memory import DATABASE
from coordination.history.store import HistoryStore
from coordination.operations.state import state_folder
from coordination.runs.views.metrics import stream_source
from coordination.settings import Settings

LOOK_S = 2.0
COLLECT_S = 10.0

Stamp = tuple[int, int, int]
logger = logging.getLogger(__name__)


class HistoryService(BackgroundService):
    name = "history"
    interval_s = LOOK_S

    def __init__(self, client: redis.Redis, keys: Keys, file: Path, settings: Settings) -> None:
        super().__init__()
        self._file = file.resolve()
        self._source = stream_source(client, keys, settings)
        self._database = state_folder(file) / DATABASE
        self._collects = settings.alone_keeps_history
        self._collected = ""
        """The end of the stream at the last time."""
        self._forwarded: Stamp | None = None
        self._collect_at = time.monotonic() + COLLECT_S

    def run_once(self) -> int:
        """Forward new edits, and collect from time to time; return the number of forwarded events."""
        stamp, forwarded = self._stamp(), 0
        if stamp is not None and stamp != self._forwarded:
            forwarded = forward(self._file, self._source.stream)
            self._forwarded = stamp
        if self._collects and time.monotonic() >= self._collect_at:
            self._collect_at = time.monotonic() + COLLECT_S
            self._collect()
        return forwarded

    def finish(self) -> None:
        """Collect before the worker stops: an embedded server may stop, too."""
        if self._collects:
            self._collect()

    def _collect(self) -> None:
        end = self._source.stream.end()
        if end == self._collected:
            return
        with HistoryStore(self._database) as history:
            collect(history, self._file)
            collect_stream(history, self._source, datetime.now(UTC))
        self._collected = end

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
