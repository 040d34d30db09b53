"""Celery's consumer and thread pool, which can serve other queues, and more todos at once, while they work.

Celery sends its events for Flower at each turn of its loop: three small messages a todo, which took a quarter
of a worker's time (measured, with todos that do nothing). Here they go in larger pieces: Flower shows them a
twentieth of a second later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from celery.concurrency.thread import TaskPool
from celery.worker.consumer import Consumer as CeleryConsumer

SEND_EVENTS_EACH_S = 0.05


class Consumer(CeleryConsumer):  # type: ignore[misc]
    _is_sending = False
    _sent_s = 0.0

    def on_send_event_buffered(self) -> None:
        if self.hub and not self._is_sending:
            self._is_sending = True
            self.hub.call_soon(self._send_events_in_time)  # any thread may call that, and no timer

    def _send_events_in_time(self) -> None:
        """Send at once what is not one of many."""
        wait_s = self._sent_s + SEND_EVENTS_EACH_S - time.monotonic()
        if wait_s > 0:
            self.hub.call_later(wait_s, self._send_events)
        else:
            self._send_events()

    def _send_events(self) -> None:
        self._is_sending, self._sent_s = False, time.monotonic()
        self._flush_events()

    def serve(self, queues: Iterable[str]) -> None:
        """Consume from these queues as well; any thread may ask."""
        self._for_each(queues, self._add)

    def cancel(self, queues: Iterable[str]) -> None:
        """Stop consuming from these queues; todos that were taken from them are executed."""
        self._for_each(queues, self._leave)

    def resize(self, by: int) -> None:
        """Execute so many todos more at once, or fewer."""
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
        """Grow by so many threads, or shrink: a thread that is there stays, and gets no task."""
        self.limit += n
        self.executor._max_workers = self.limit
