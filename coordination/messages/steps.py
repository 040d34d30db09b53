"""Calls of the Lua steps in backend/lua/message and backend/lua/inbox, and acknowledgement with effects.

The effects of a message in Redis are written with its acknowledgement in one transaction, or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from copy import copy
from typing import TypeVar

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import WatchError

from coordination.backend import library
from coordination.backend.client import ANSWER_S, reaching
from coordination.backend.keys import Keys
from coordination.backend.step_connection import StepConnection
from coordination.backend.steps import Step
from coordination.backend.steps.message import Ack, Deliveries, ReadDelivery
from coordination.messages.records import Message

R = TypeVar("R")


class Steps:
    def __init__(self, redis: Redis, namespace: str) -> None:
        self.redis = redis
        self.keys = Keys(namespace).messages
        self.connection = StepConnection(redis)
        self._head = [self.keys.head]
        self._deadline: float | None = None

    def __call__(self, step: Step[R]) -> R:
        """Call a step. Raises Unreachable if Redis does not answer, Unusable if it refuses."""
        return self.connection(step, self._head, patience_s=self.patience_s)

    @property
    def url(self) -> str:
        return self.connection.url

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


def deliveries(messages: Iterable[Message]) -> Deliveries:
    """Return the ticket and the delivery of each message."""
    return [(message.ticket, message.delivery) for message in messages]


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
    question, keys = ReadDelivery(recipient=message.to, ticket=message.ticket), [steps.keys.head]
    reply = steps.connection.with_library(lambda: pipe.fcall(*library.fcall(question, keys)))
    delivery = question.result(reply)
    if delivery is None or (delivery.number, delivery.reader) != (message.delivery, message.reader):
        return False
    pipe.multi()
    effects(pipe)
    ack = Ack(recipient=message.to, reader=message.reader, begun="", messages=deliveries([message]))
    pipe.fcall(*library.fcall(ack, keys))
    pipe.execute()
    return True
