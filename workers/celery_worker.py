"""The parts of the Celery worker that coord adds: its consumer, its thread pool, and the two tasks.

The consumer can serve other queues, and the pool more todos at once, while they work. Celery sends its events
for Flower at each turn of its loop: three small messages a todo, which took a quarter of a worker's time
(measured, with todos that do nothing). This consumer sends larger pieces: Flower shows them a twentieth of a
second later.

One task executes a delivery, the other advances a run by a level. A chord counts a header when its task
returns. So a delivery that does not end its todo must not return (it raises Ignore, and Flower gets
`task-retried`); and a todo that failed must count all the same, so its part is reported by hand.
"""

from __future__ import annotations

import gc
import logging
import time
import traceback
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import redis
from celery import Celery, Task
from celery.concurrency.thread import TaskPool
from celery.exceptions import Ignore
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.state import requests, total_count

from coordination.broker.celery_app import ADVANCE, EXECUTE
from coordination.runs.dispatch import Dispatcher, count_part
from workers.task_result import TaskResult, TaskResultKind

if TYPE_CHECKING:
    from workers.delivery import DeliveryHandler

SEND_EVENTS_EACH_S = 0.05


class Consumer(CeleryConsumer):  # type: ignore[misc]
    _is_sending = False
    _sent_s = 0.0

    def on_send_event_buffered(self) -> None:
        if self.hub and not self._is_sending:
            self._is_sending = True
            self.hub.call_soon(self._send_events_in_time)  # any thread may call that, and no timer

    def _send_events_in_time(self) -> None:
        """Send the collected events now, or SEND_EVENTS_EACH_S after the last ones."""
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
        """Change the number of todos executed at once by this difference."""
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
        """Add `n` threads; a negative number shrinks the pool: surplus threads stay, and get no task."""
        self.limit += n
        self.executor._max_workers = self.limit


NAMES_KEPT = 1000

logger = logging.getLogger(__name__)


def register(
    app: Celery, deliveries: Callable[[], DeliveryHandler], dispatcher: Dispatcher, *, joins: bool = True
) -> None:
    """Register both tasks. `deliveries` returns the handler, which is made for the first delivery. `joins`:
    this worker counts the parts of a level itself; else the maintenance leader does.
    """

    @app.task(name=EXECUTE, bind=True)  # type: ignore[untyped-decorator]
    def execute(self: Task, run_id: str, todo_id: str, attempt: int, repo: str) -> None:
        if not joins:
            self.request.update(chord=None, chain=None)
        result = task_result(deliveries, run_id, todo_id, attempt, repo)
        if result.kind is TaskResultKind.DONE:
            return
        if result.kind is TaskResultKind.LATER:
            _send_event(self, "task-retried", result.why)
        else:
            count_part(app, self.request)
        if result.kind is TaskResultKind.FAILED:
            _send_event(self, "task-failed", result.why)
        if result.kind is TaskResultKind.CANCELLED and (request := requests.get(self.request.id)):
            request.send_event("task-revoked", terminated=True, signum=None, expired=False)
        raise Ignore

    @app.task(name=ADVANCE)  # type: ignore[untyped-decorator]
    def advance(run_id: str, level: int) -> None:
        try:
            dispatcher.advance(run_id, level, "join")
        except Exception:
            text = "level %s of run %s: the maintenance leader opens the next one\n%s"
            logger.error(text, level, run_id, traceback.format_exc())
            raise


def _send_event(task: Task, kind: str, why: str) -> None:
    """Send an event to Flower after the earlier events: the task's own `send_event` would overtake them."""
    if request := requests.get(task.request.id):
        request.send_event(kind, exception=why, traceback="")


def forget_names() -> None:
    """Clear Celery's counter of tasks by name: each todo has a name of its own, so it would grow for ever."""
    if len(total_count) > NAMES_KEPT:
        total_count.clear()


def collect() -> None:
    """Collect garbage. Each `Ignore` leaves a cycle with copies of all frames: 100 kB that count as a few
    objects, so that the collector itself runs too late, and the worker grows by 38 kB a run (measured over
    1,000 runs).
    """
    gc.collect()


def task_result(
    deliveries: Callable[[], DeliveryHandler], run_id: str, todo_id: str, attempt: int, repo: str
) -> TaskResult:
    """Handle a delivery. After an error the todo is requeued when its lease expires."""
    try:
        return deliveries().handle(run_id, todo_id, attempt, repo)
    except redis.ResponseError as error:
        line = "%s of run %s: its records in Redis are damaged: %s; its lease expires (see: coord doctor)"
        logger.error(line, todo_id, run_id, str(error).partition("\n")[0])
        return TaskResult(TaskResultKind.LATER, f"its records in Redis are damaged: {error}")
    except Exception as error:
        logger.exception(
            "%s of run %s: a fault of coord; the todo is requeued when its lease expires", todo_id, run_id
        )
        return TaskResult(TaskResultKind.LATER, f"{type(error).__name__}: {error}")
