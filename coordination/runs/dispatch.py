"""Send the messages that a step of the store makes necessary.

A lost message is harmless: the maintenance leader sends it again.
"""

from __future__ import annotations

from collections.abc import Iterable

from celery import Celery

from coordination.broker.canvas import Canvas, count_part
from coordination.broker.delivery import Delivery
from coordination.runs.records import Descriptor
from coordination.runs.replies import Reply
from coordination.runs.store import RunStore

ALL = 10_000
"""More batches than any run has."""


class Dispatcher:
    def __init__(self, app: Celery, store: RunStore) -> None:
        self._app = app
        self._store = store
        self._canvas = Canvas(app, store.keys)

    def follow(self, reply: Reply) -> None:
        """Send the messages of a reply, and fire the todos that it wakes; their replies are followed too."""
        pending = [reply]
        while pending:
            current = pending.pop()
            if current.header:
                self._canvas.level(current.header).apply_async()
            self.send(current.sends)
            pending += [self._store.fire(run_id, todo_id) for run_id, todo_id in current.wakes]

    def send(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self._canvas.todo(delivery).apply_async()

    def leave_message_template(self) -> None:
        """Leave a message template in Redis, so that steps can put messages into queues themselves; for
        callers that have the Celery app anyway.
        """
        self._store.redis.hset(self._store.keys.envelope, mapping=self._canvas.message_template())

    def finish(self, run_id: str, at_most: int = ALL) -> None:
        """Continue the steps that concern every todo of the run, by at most `at_most` batches."""
        for _ in range(at_most):
            batch = self._store.next_batch(run_id)
            if batch is None:
                return
            self.follow(self._store.execute_batch(run_id, batch))

    def join(self, of: Delivery) -> None:
        """Count the end of a todo in its level's join, for a worker that may not count it itself."""
        count_part(self._app, self._canvas.part(of))

    def open_level_after(self, run_id: str, todo_id: str) -> None:
        """Open the next level after a todo that ended without a message: no chord counts it."""
        descriptor = self._store.redis.hget(self._store.keys.run(run_id).place, todo_id)
        self.advance(run_id, Descriptor.parse(descriptor).level, "join")

    def advance(self, run_id: str, level: int, source: str) -> Reply:
        reply = self._store.advance(run_id, level, source)
        self.follow(reply)
        return reply
