"""Sends what a step of the store makes necessary. Losing a message is harmless: the reaper sends it again."""

from __future__ import annotations

from collections.abc import Iterable

from celery import Celery, states

from coordination.broker.canvas import Canvas
from coordination.broker.delivery import Delivery
from coordination.runs.records import Reply
from coordination.runs.store import RunStore

ALL = 10_000
"""Pieces: more than any run has."""


class Dispatcher:
    def __init__(self, app: Celery, store: RunStore) -> None:
        self._app = app
        self._store = store
        self._canvas = Canvas(app, store.keys)

    def follow(self, reply: Reply) -> None:
        """Sends the messages of a reply, and wakes whom it names; their replies are followed too."""
        pending = [reply]
        while pending:
            current = pending.pop()
            if current.header:
                self._canvas.level(current.header).apply_async()
            self.send(current.sends)
            pending += [self._store.fire(run_id, todo_id) for run_id, todo_id in current.wakes]

    def send(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self._canvas.again(delivery).apply_async()

    def leave_envelope(self) -> None:
        """From now on steps put messages into queues themselves; for whoever has the carrier at hand anyway."""
        self._store.redis.hset(self._store.keys.envelope, mapping=self._canvas.envelope())

    def finish(self, run_id: str, at_most: int = ALL) -> None:
        """What a step has left to do of what concerns every todo of the run, at most so many pieces of it."""
        for _ in range(at_most):
            piece = self._store.piece(run_id)
            if piece is None:
                return
            self.follow(self._store.remainder(run_id, piece))

    def join(self, of: Delivery) -> None:
        """A todo has ended whose worker must not count its part of its level itself."""
        if of.size == 1:
            self._canvas.advance(of).apply_async()
        elif of.size > 1:
            self._app.backend.on_chord_part_return(self._canvas.part(of), states.SUCCESS, None)

    def open_level_after(self, run_id: str, todo_id: str) -> None:
        """The todo has ended, and no message of it returns: no chord counts it."""
        place = self._store.redis.hget(self._store.keys.run(run_id).place, todo_id)
        self.advance(run_id, int(place.split()[1]), "join")

    def advance(self, run_id: str, level: int, source: str) -> Reply:
        reply = self._store.advance(run_id, level, source)
        self.follow(reply)
        return reply
