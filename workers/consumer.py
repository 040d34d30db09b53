"""Celery's consumer and its threads, which can serve other queues, and more todos at once, while they work.

Its events for Flower go in larger pieces.

Celery sends what it has to tell at each turn of its loop: three small messages a todo, which took a quarter of a worker's time
(measured, with todos that do nothing). Where there are many, Flower shows them a twentieth of a second later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from celery.concurrency.thread import TaskPool
from celery.worker.consumer import Consumer as CeleryConsumer

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

    def _for_each(self, queues: Iterable[str], deed: Callable[[str], None]) -> None:
        for queue in queues:
            self.hub.call_soon(deed, queue)

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
