"""The worker process: a Celery worker with threads, our own way to stop it, and the watch of ecosystem.yaml.

Todos are child processes, so a thread that waits for one costs little, and Celery's time limits are not
needed. Celery's soft shutdown does nothing on threads; here the first TERM (or Ctrl-C) stops consuming and
lets running todos finish; the second kills the children, hands their todos back and exits.

The process follows repositories that the ecosystem file adds, moves or removes, without a restart. A file
that is invalid, because it is being edited, changes nothing. Only repositories and slots are followed;
settings take effect at the next start.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from types import FrameType
from typing import Any

import redis
from celery import signals
from celery.apps.worker import Worker as CeleryWorker
from celery.worker import state

from coordination.backend.client import reaching
from coordination.backend.server_check import refuse_unfit
from coordination.background import BackgroundService
from coordination.errors import Conflict, CoordinationError, Unreachable, Unusable
from coordination.retry import retried
from workers.celery_worker import Consumer
from workers.config import WorkerConfig
from workers.container import Container
from workers.restricted import refusals_explained

EXIT_HANDED_BACK = 143
"""128 + TERM: todos that were running did not finish here."""

REDIS_RETRY_S = 0.5
LOOK_S = 0.5

Stamp = tuple[int, int, int]

logger = logging.getLogger(__name__)


class WorkerProcess:
    def __init__(self, container: Container, watch: FileWatch | None = None) -> None:
        self._container = container
        self._watch = watch
        self._stop_signals = 0

    def run(self) -> int:
        """Serve until a signal stops this process; return the exit code."""
        container = self._container
        self._handle_signals()
        if not self._signed_on():
            return os.EX_OK
        app = container.registered()
        # Celery's worker would install its own handlers when it starts.
        app.Worker = app.subclass_with_self(
            CeleryWorker, name="Worker", install_platform_tweaks=self._handle_signals
        )
        signals.setup_logging.connect(_keep_our_logging, weak=False)
        signals.worker_ready.connect(self._ready, weak=False)
        signals.worker_shutdown.connect(self._stopped, weak=False)
        worker = app.Worker(
            hostname=container.worker.id,
            pool_cls="workers.celery_worker:Threads",
            consumer_cls="workers.celery_worker:Consumer",
            concurrency=container.config.jobs,
            queues=container.queues,
            quiet=True,
            without_gossip=True,
            without_mingle=True,
        )
        worker.start()
        return int(worker.exitcode or 0)

    def _signed_on(self) -> bool:
        """Sign on before anything is consumed; False if a signal came first.

        A Redis that is not there yet is waited for. Raises Unusable.
        """
        for repo in self._container.served:
            if why := self._container.served.unfit(repo):
                logger.warning("%s: %s; its todos wait", repo, why)
        logged = ""

        def passes(error: Exception, _pause_s: float) -> bool:
            nonlocal logged
            if self._stop_signals or isinstance(error, Unusable) or not isinstance(error, Unreachable):
                return False
            if logged != error.message:  # once, and not twice a second for a night
                logger.warning("%s; asking again until it does", error.message)
            logged = error.message
            return True

        try:
            retried(self._sign_on, repeat(REDIS_RETRY_S), passes)
        except Unreachable as error:
            if isinstance(error, Unusable) or not self._stop_signals:
                raise
            return False
        return True

    def _sign_on(self) -> None:
        url = self._container.config.redis_url
        with reaching(url):
            for finding in refuse_unfit(self._container.redis, url):
                logger.warning("Redis: %s; %s", finding.what, finding.hint)
            with refusals_explained(self._container.config):
                self._container.sign_on()

    def _ready(self, sender: Consumer, **_: Any) -> None:
        for service in self._container.services:
            service.start()
        if self._watch is not None:
            self._watch.follow(self._container, sender)
        logger.info("serving %s", ", ".join(self._container.served))

    def _stopped(self, **_: Any) -> None:
        if self._watch is not None:
            self._watch.stop()
        for service in reversed(self._container.services):
            service.stop()
        self._container.leases.leave()

    def _handle_signals(self, _worker: object = None) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._stop_signals += 1
        state.should_stop = os.EX_OK
        if self._stop_signals == 1:
            logger.info(
                "stopping when running todos have finished; a second signal returns them to the queue"
            )
        else:
            # Not in the handler: it may have interrupted a thread that holds a lock needed below.
            threading.Thread(target=self._hand_back, name="hand-back").start()

    def _hand_back(self) -> None:
        self._container.deliveries.hand_back_all()
        self._stopped()
        os._exit(EXIT_HANDED_BACK)


def _keep_our_logging(**_: Any) -> None:
    """Do nothing: Celery leaves logging alone as soon as this signal has a receiver."""


class FileWatch(BackgroundService):
    """Look at the file twice a second, and read it when it has changed and stayed as it is for a look."""

    name = "file-watch"
    interval_s = LOOK_S
    join_s = 0.0

    def __init__(self, file: Path, read: Callable[[], WorkerConfig]) -> None:
        """`read` returns the configuration that file and arguments ask for.

        Make the watch before the first read.
        """
        super().__init__()
        self._file = file
        self._read = read
        self._before = self._known = self._stamp()
        self._conflict = ""

    def follow(self, container: Container, consumer: Consumer) -> None:
        """Start, for the worker of this container and consumer."""
        self._container, self._consumer = container, consumer
        self._settings = container.config.settings
        self.start()

    def run_once(self) -> None:
        stamp, before = self._stamp(), self._before
        self._before = stamp
        if stamp not in (None, self._known) and stamp == before:
            self._known = stamp
            self._take_over()
        self._serve()

    def failed(self, error: Exception) -> float:
        if not isinstance(error, redis.RedisError):
            return super().failed(error)
        logger.debug("the file is followed when Redis is back: %s", error)
        return self.interval_s

    def _stamp(self) -> Stamp | None:
        try:
            found = self._file.stat()
        except OSError:  # between two writes of an editor
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _take_over(self) -> None:
        """Read the file, and set the repositories and slots to serve."""
        try:
            wanted = self._read()
        except (CoordinationError, OSError) as error:
            logger.warning("%s cannot be used, so the served repositories stay: %s", self._file, error)
            return
        if wanted.settings != self._settings:
            logger.info("settings have changed: they apply from the next start of this worker")
        served = self._container.served
        served.serve_from_now_on(wanted.places)
        if wanted.jobs != served.jobs:
            self._consumer.resize(wanted.jobs - served.jobs)
            served.jobs = wanted.jobs
            self._container.leases.wake()

    def _serve(self) -> None:
        """Take a step towards the wanted repositories: leave and announce that before serving others."""
        container, served = self._container, self._container.served
        if gone := served.leave():
            self._consumer.cancel(container.queues_of(gone))
            container.leases.announce()
            logger.info("no longer served where it was: %s", ", ".join(gone))
        if new := served.join(self._permitted):
            container.leases.announce()
            self._consumer.serve(container.queues_of(new))
            for repo in new:
                logger.info("serving %s at %s", repo, served[repo])
                if why := served.unfit(repo):
                    logger.warning("%s: %s; its todos wait", repo, why)

    def _permitted(self, repo: str, path: Path) -> bool:
        """Return whether no other worker of this host serves the repository from another folder."""
        moved = self._container.worker.model_copy(
            update={"repos": (repo,), "places": {repo: os.fspath(path)}}
        )
        try:
            self._container.registry.refuse_clash(moved)
        except Conflict as conflict:
            if self._conflict != conflict.message:
                logger.warning("%s is not served at %s yet: %s", repo, path, conflict.message)
            self._conflict = conflict.message
            return False
        return True
