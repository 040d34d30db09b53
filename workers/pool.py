"""The worker process: a Celery worker with threads, and our own way to stop it.

Todos are child processes, so a thread that waits for one costs little, and Celery's time limits are not needed. Celery's soft
shutdown does nothing on threads; here the first TERM (or Ctrl-C) stops consuming and lets what runs finish; the second kills
the children, hands their todos back and exits. The consumer can serve other queues, and more todos at once, while it works.

Celery sends what it has to tell Flower at each turn of its loop: three small messages a todo, which took a quarter of a worker's time
(measured, with todos that do nothing). Here they go in larger pieces: Flower shows them a twentieth of a second later.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from celery import signals
from celery.apps.worker import Worker as CeleryWorker
from celery.concurrency.thread import TaskPool
from celery.worker import state
from celery.worker.consumer import Consumer as CeleryConsumer

from coordination.backend.client import reaching
from coordination.backend.server_check import refuse_unfit
from coordination.errors import Unreachable, Unusable
from workers.app import Container
from workers.file_watch import FileWatch
from workers.restricted import in_words

TELL_EACH_S = 0.05


class Consumer(CeleryConsumer):  # type: ignore[misc]
    _tells = False
    _told_s = 0.0

    def on_send_event_buffered(self) -> None:
        if self.hub and not self._tells:
            self._tells = True
            self.hub.call_soon(self._tell_in_time)  # which any thread may ask for, and a timer not

    def _tell_in_time(self) -> None:
        """At once, where it is not one of many."""
        wait_s = self._told_s + TELL_EACH_S - time.monotonic()
        if wait_s > 0:
            self.hub.call_later(wait_s, self._tell)
        else:
            self._tell()

    def _tell(self) -> None:
        self._tells, self._told_s = False, time.monotonic()
        self._flush_events()

    def serve(self, queues: Iterable[str]) -> None:
        """Consume from these as well; any thread may ask."""
        self._for_each(queues, self._add)

    def cancel(self, queues: Iterable[str]) -> None:
        """Consume from these no more; what was taken from them is carried out."""
        self._for_each(queues, self._leave)

    def resize(self, by: int) -> None:
        """Carry out so many todos more at once, or fewer."""
        self.hub.call_soon(self._resize, by)

    def _for_each(self, queues: Iterable[str], action: Callable[[str], None]) -> None:
        for queue in queues:
            self.hub.call_soon(action, queue)

    def _add(self, queue: str) -> None:
        if self.task_consumer:
            self.add_task_queue(queue)
        else:  # the connection is away: it begins with what is chosen here
            self.app.amqp.queues.select_add(queue, exchange=queue, exchange_type="direct")

    def _leave(self, queue: str) -> None:
        if self.task_consumer:
            self.cancel_task_queue(queue)
        else:
            self.app.amqp.queues.deselect(queue)

    def _resize(self, by: int) -> None:
        self.pool.grow(by)
        self._update_prefetch_count(by)


class Threads(TaskPool):  # type: ignore[misc]
    def grow(self, n: int) -> None:
        """By so many, or by fewer than none: a thread that is there stays, and is given nothing."""
        self.limit += n
        self.executor._max_workers = self.limit


EXIT_HANDED_BACK = 143
"""128 + TERM: what was running did not finish here."""

REDIS_RETRY_S = 0.5

logger = logging.getLogger(__name__)


class Pool:
    def __init__(self, parts: Container, watch: FileWatch | None = None) -> None:
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
            pool_cls="workers.pool:Threads",
            consumer_cls="workers.pool:Consumer",
            concurrency=parts.config.jobs,
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
        for repo in self._parts.config.places:
            if why := self._parts.config.unfit(repo):
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
        url = self._parts.config.redis_url
        with reaching(url):
            for finding in refuse_unfit(self._parts.redis, url):
                logger.warning("Redis: %s; %s", finding.what, finding.hint)
            with in_words(self._parts.config):
                self._parts.leases.sign_on()
                self._parts.local_liveness.sign()
            self._parts.notifications.sign_on()
            if not self._parts.config.settings.restricted:
                self._parts.dispatcher.leave_envelope()

    def _ready(self, sender: Consumer, **_: Any) -> None:
        for service in self._parts.services:
            service.start()
        if self._watch is not None:
            self._watch.start(self._parts, sender)
        logger.info("serving %s", ", ".join(self._parts.config.places))

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
