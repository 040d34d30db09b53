"""Calls of the Lua steps in backend/lua/message and backend/lua/inbox, and acknowledgement with effects.

The effects of a message in Redis are written with its acknowledgement in one transaction, or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import copy
from typing import Any

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import WatchError

from coordination.backend import library
from coordination.backend.client import ANSWER_S, reaching
from coordination.backend.keys import Keys
from coordination.backend.step_connection import StepConnection
from coordination.messages.records import Message, text


class Steps:
    def __init__(self, redis: Redis, namespace: str) -> None:
        self.redis = redis
        self.keys = Keys(namespace).messages
        self.line = StepConnection(redis)
        self._head = [self.keys.head]
        self._deadline: float | None = None

    def __call__(self, step: str, *args: str | int) -> Any:
        """Call `message/<step>` or `inbox/<step>`. Raises Unreachable if Redis does not answer, Unusable if
        it refuses.
        """
        return self.line(step, self._head, args, patience_s=self.patience_s)

    @property
    def url(self) -> str:
        return self.line.url

    @property
    def patience_s(self) -> float:
        """Time to wait for an answer."""
        return (
            ANSWER_S if self._deadline is None else min(ANSWER_S, max(0.0, self._deadline - time.monotonic()))
        )

    def until(self, deadline: float) -> Steps:
        """Return steps that wait no longer than the deadline, by the monotonic clock."""
        copied = copy(self)
        copied._deadline = deadline
        return copied


def deliveries(*messages: Message) -> list[str | int]:
    """Return the ticket and the delivery of each message, as the steps expect them."""
    return [word for message in messages for word in (message.ticket, message.delivery)]


Effects = Callable[[Pipeline], object]


def ack_with(steps: Steps, message: Message, effects: Effects) -> bool:
    """Acknowledge a message with effects; False, without effect, if the reader no longer has it.

    Uses optimistic locking (WATCH) on the inbox's deliveries: if one changes in between, the transaction is
    repeated.
    """
    with reaching(steps.url), steps.redis.pipeline() as pipe:
        while True:
            try:
                return _try(steps, pipe, message, effects)
            except WatchError:  # also if the connection is lost in between
                pipe.reset()


def _try(steps: Steps, pipe: Pipeline, message: Message, effects: Effects) -> bool:
    pipe.watch(steps.keys.deliveries(message.to))
    # A step, not HGET: it loads the library if that is missing, which is impossible inside MULTI.
    question = (library.function("inbox/delivery"), 1, steps.keys.head, message.to, message.ticket)
    if not _has_delivery(message, steps.line.with_library(lambda: pipe.fcall(*question))):
        return False
    pipe.multi()
    effects(pipe)
    pipe.fcall(
        library.function("inbox/ack"),
        1,
        steps.keys.head,
        message.to,
        message.reader,
        "",
        *deliveries(message),
    )
    pipe.execute()
    return True


def _has_delivery(message: Message, delivery: bytes | str | None) -> bool:
    """Return whether the delivery record, in the form of inbox.read_delivery in Lua, names this message's
    delivery and reader.
    """
    if delivery is None:
        return False
    n, _, _, reader = text(delivery).split(" ", 3)
    return (int(n), reader) == (message.delivery, message.reader)
