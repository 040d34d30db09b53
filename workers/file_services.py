"""Services of a worker that has the ecosystem file: its history, the results of its runs, and health.

**History.** `HistoryService` forwards the edits of the file from its journal to the stream of events. It
reads the stream into the history if the history is kept on this host: with the embedded server, or as
`history_host`. The journal is read only when it has changed. Work that fails is repeated in a later round,
because the journal and the stream keep their entries, each up to its limit.

**Results.** `ResultsWriter` writes the results of ended runs into the file, where no other process has
written them. A process that follows a run writes its results as soon as it ends. If there is none (`sweep
--detach`, a closed terminal, a killed process), a worker on the machine of the file writes them some seconds
later, by the same edit as `coord run sync`: under the lock of the file, completely or not at all. Only runs
that were submitted from exactly this file are listed for it. Redis lists a run from its end until its results
are written (runs/write_back.py).

* The file is invalid, read-only, locked by another edit, or missing: the results wait. The reason is in the
  log and in `coord show-run`. The worker tries again when the file has changed, and otherwise after 2 s up to
  a minute.
* Another process writes the same results: the second one finds them in the file.
* The worker dies between the edit and the entry in Redis: the next one finds them in the file.
* A rollback ends the run once more: the run is listed once more.
* The file belongs to another user: that user's worker or `coord run sync` writes it.
* Signatures are required and do not cover a result: it is left out, by `coord run sync`, too.

**Health.** Every worker that has the file runs the monitor; one of all monitors acts. A restricted worker
runs none: it may write nothing but the results of its todos.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import redis
from redis import Redis

from coordination.backend.keys import Keys
from coordination.background import BackgroundService
from coordination.breakers.manager import BreakerManager
from coordination.breakers.records import Policy
from coordination.credentials.records import Purpose
from coordination.credentials.store import CredentialStore, credentials_file
from coordination.ecosystem.changes import RunOutcome
from coordination.ecosystem.document import load
from coordination.ecosystem.journal import Journal
from coordination.errors import CoordinationError, Unreadable
from coordination.events.stream import EventStream
from coordination.health.facts import FactSource, ServiceReport
from coordination.health.monitor import HealthMonitor
from coordination.health.recovery import RecoveryRuns
from coordination.health.remotes import RemoteLooks
from coordination.health.store import HealthStore
from coordination.history.collect import collect, collect_stream, forward
from coordination.history.memory import DATABASE
from coordination.history.store import HistoryStore
from coordination.locks import LockManager
from coordination.messages.bus import open_bus
from coordination.models import Ecosystem, WriteBack
from coordination.operations.state import state_folder
from coordination.runs.store import RunStore
from coordination.runs.views.history_figures import stream_source
from coordination.runs.worker_registry import WorkerRegistry
from coordination.runs.write_back import file_id, keep_failure, write_results
from coordination.services.view import service_reports
from coordination.settings import Settings
from workers.core import WorkerCore
from workers.credentials import GitCredentials

if TYPE_CHECKING:
    from coordination.runs.connection import Connection

LOOK_S = 2.0
COLLECT_S = 10.0
GRACE_MS = 3000
"""Time for the process that follows a run to write its results and to print them."""
FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 60.0

Stamp = tuple[int, int, int]
logger = logging.getLogger(__name__)


Confirm = Callable[[str, str, RunOutcome], tuple[RunOutcome, str]]
"""Takes a run, the digest of the file, and the outcome. Returns the part of the outcome that may be written,
and the reason for what is left out.
"""


def file_services(core: WorkerCore, file: Path) -> Iterator[BackgroundService]:
    """Yield the services of a worker that has this file."""
    settings, store = core.config.settings, core.store
    yield from _health_services(core, file)
    if settings.write_back is not WriteBack.NONE:
        yield ResultsWriter(store, file, core.order_check.confirm_outcome)
    yield HistoryService(store.redis, store.keys, file, settings)


def _health_services(core: WorkerCore, file: Path) -> Iterator[BackgroundService]:
    config, store, worker, served = core.config, core.store, core.worker, core.served
    settings, redis, keys = config.settings, store.redis, store.keys
    declared, health = DeclaredFile(file), HealthStore(store.redis, keys)
    registry = WorkerRegistry(redis, keys)

    @cache
    def connection() -> Connection:
        from coordination.runs.connection import Connection  # for a recovery, in the monitor that leads

        return Connection(
            config.redis_url, settings, config.ecosystem_id, changed_folders=lambda: tuple(served.values())
        )

    def reports() -> Sequence[ServiceReport]:
        return service_reports(config.state, worker.host, registry)

    yield HealthMonitor(
        health,
        FactSource(redis, keys, declared, reports),
        EventStream(redis, keys.namespace),
        LockManager(redis, keys.namespace),
        BreakerManager(redis, keys.namespace, policy=Policy.of(settings)),
        RecoveryRuns(connection, declared, reports, open_bus(redis, settings, worker.id)),
        label=worker.id,
        lease=settings.lease_ttl,
        every=settings.health_interval,
    )
    git = GitCredentials(
        CredentialStore(credentials_file()),
        config.state,
        lambda run, repo, name: store.secrets_read(run, "", repo, worker.id, [name]),
    )
    access = partial(git.access, "", purpose=Purpose.READ)
    yield RemoteLooks(health, declared, served, worker.host, access=access)


class DeclaredFile:
    """The records of the file, read again when it has changed. An invalid file does not replace them."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stamp: Stamp | None = None
        self._known: Ecosystem | None = None

    def __call__(self) -> Ecosystem:
        """Return the records. Raises CoordinationError where the file was never valid."""
        try:
            found = self._file.stat()
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            if self._known is None or stamp != self._stamp:
                self._known, self._stamp = load(self._file).ecosystem, stamp
        except (CoordinationError, OSError) as error:
            if self._known is None:
                raise
            logger.debug("%s cannot be read, its former content holds: %s", self._file, error)
        return self._known


class HistoryService(BackgroundService):
    name = "history"
    interval_s = LOOK_S

    def __init__(self, client: Redis, keys: Keys, file: Path, settings: Settings) -> None:
        super().__init__()
        self._file = file.resolve()
        self._source = stream_source(client, keys, settings)
        self._database = state_folder(file) / DATABASE
        self._collects = settings.alone_keeps_history
        self._collected = ""
        """The last entry of the stream that is in the history."""
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


class ResultsWriter(BackgroundService):
    name = "results-writer"
    interval_s = 1.0

    def __init__(
        self,
        store: RunStore,
        path: Path,
        confirm: Confirm = lambda _run, _digest, outcome: (outcome, ""),
    ) -> None:
        super().__init__()
        self._confirm = confirm
        self._store = store
        self._path = path
        self._file = file_id(path)
        self._pause_s = 0.0
        self._again_at = 0.0
        self._seen: Stamp | None = None
        """The file at the last failure."""

    def run_once(self) -> list[str]:
        """Write the results of the runs that ended some seconds ago; return the runs."""
        return self._write(GRACE_MS)

    def finish(self) -> None:
        """Write all listed results before the worker stops: the next worker may start much later."""
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
                f"that user writes the results: coord run sync {run_id}",
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

    def _stamp(self) -> Stamp | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_ctime_ns, found.st_size
