"""The worker process: a Celery worker with threads, and our own way to stop it.

Todos are child processes, so a thread that waits for one costs little, and Celery's time limits are not needed. Celery's soft
shutdown does nothing on threads; here the first TERM (or Ctrl-C) stops consuming and lets what runs finish; the second kills
the children, hands their todos back and exits.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from types import FrameType
from typing import Any

from celery import signals
from celery.apps.worker import Worker as CeleryWorker
from celery.worker import state

from coordination.errors import Unreachable, Unusable
from coordination.wire.connection import reaching
from coordination.wire.fitness import refuse_unfit
from workers.app import WorkerParts
from workers.consumer import Consumer
from workers.file_watch import FileWatch
from workers.restricted import in_words

EXIT_HANDED_BACK = 143
"""128 + TERM: what was running did not finish here."""

REDIS_RETRY_S = 0.5

logger = logging.getLogger(__name__)


class Pool:
    def __init__(self, parts: WorkerParts, watch: FileWatch | None = None) -> None:
        self._parts = parts
        self._watch = watch
        self._asked_to_stop = 0

    def run(self) -> int:
        """Serves until it is told to stop; returns the exit code."""
        parts = self._parts
        self._handle_signals()
        if not self._signed_on():
            return os.EX_OK
        app = parts.registered()
        # Celery's worker would install its own handlers when it starts.
        app.Worker = app.subclass_with_self(CeleryWorker, name="Worker", install_platform_tweaks=self._handle_signals)
        signals.setup_logging.connect(_keep_our_logging, weak=False)
        signals.worker_ready.connect(self._ready, weak=False)
        signals.worker_shutdown.connect(self._stopped, weak=False)
        worker = app.Worker(
            hostname=parts.worker.id,
            pool_cls="workers.consumer:Threads",
            consumer_cls="workers.consumer:Consumer",
            concurrency=parts.charge.jobs,
            queues=parts.queues,
            quiet=True,
            without_gossip=True,
            without_mingle=True,
        )
        worker.start()
        return int(worker.exitcode or 0)

    def _signed_on(self) -> bool:
        """Before anything is consumed. A Redis that is not there yet is waited for, until we are told to stop; one that is of
        no use ends us.
        """
        for repo in self._parts.charge.places:
            if why := self._parts.charge.unfit(repo):
                logger.warning("%s: %s; its todos wait", repo, why)
        said = ""
        while not self._asked_to_stop:
            try:
                self._join()
                return True
            except Unusable:
                raise
            except Unreachable as error:
                if said != error.message:  # once, and not twice a second for a night
                    logger.warning("%s; asking until it does", error.message)
                said = error.message
                time.sleep(REDIS_RETRY_S)
        return False

    def _join(self) -> None:
        url = self._parts.charge.redis_url
        with reaching(url):
            for finding in refuse_unfit(self._parts.redis, url):
                logger.warning("Redis: %s; %s", finding.what, finding.hint)
            with in_words(self._parts.charge):
                self._parts.leases.sign_on()
                self._parts.roll.sign()
            self._parts.mail.sign_on()
            if not self._parts.charge.settings.restricted:
                self._parts.dispatcher.leave_envelope()

    def _ready(self, sender: Consumer, **_: Any) -> None:
        for service in self._parts.services:
            service.start()
        if self._watch is not None:
            self._watch.start(self._parts, sender)
        logger.info("serving %s", ", ".join(self._parts.charge.places))

    def _stopped(self, **_: Any) -> None:
        if self._watch is not None:
            self._watch.stop()
        for service in reversed(self._parts.services):
            service.stop()
        self._parts.leases.leave()

    def _handle_signals(self, _worker: object = None) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._asked_to_stop += 1
        state.should_stop = os.EX_OK
        if self._asked_to_stop == 1:
            logger.info("stopping: what runs may finish; a second signal hands it back")
        else:
            # Not in the handler: it may have interrupted a thread that holds a lock needed below.
            threading.Thread(target=self._hand_back, name="hand-back").start()

    def _hand_back(self) -> None:
        self._parts.attempts.hand_back_all()
        self._stopped()
        os._exit(EXIT_HANDED_BACK)


def _keep_our_logging(**_: Any) -> None:
    """Celery leaves logging alone as soon as somebody listens to this signal."""
