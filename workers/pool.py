"""The worker process: a Celery worker with threads, and our own way to stop it.

Todos are child processes, so a thread that waits for one costs little, and Celery's time limits are not
needed. Celery's soft shutdown does nothing on threads; here the first TERM (or Ctrl-C) stops consuming and
lets running todos finish; the second kills the children, hands their todos back and exits.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from itertools import repeat
from types import FrameType
from typing import Any

from celery import signals
from celery.apps.worker import Worker as CeleryWorker
from celery.worker import state

from coordination.backend.client import reaching
from coordination.backend.server_check import refuse_unfit
from coordination.errors import Unreachable, Unusable
from coordination.retry import retried
from workers.app import Container
from workers.consumer import Consumer
from workers.file_watch import FileWatch
from workers.restricted import refusals_explained

EXIT_HANDED_BACK = 143
"""128 + TERM: todos that were running did not finish here."""

REDIS_RETRY_S = 0.5

logger = logging.getLogger(__name__)


class Pool:
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
            pool_cls="workers.consumer:Threads",
            consumer_cls="workers.consumer:Consumer",
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
