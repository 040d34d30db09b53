"""The steps of backend/lua/message and backend/lua/inbox, called on one Redis under one namespace.

What a message caused in Redis is written with its acknowledgement in one transaction, or not at all.
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
        """`message/<step>` or `inbox/<step>`. Raises Unreachable where Redis does not answer, Unusable where it refuses."""
        return self.line(step, self._head, args, patience_s=self.patience_s)

    @property
    def url(self) -> str:
        return self.line.url

    @property
    def patience_s(self) -> float:
        """For how long an answer is asked for."""
        return ANSWER_S if self._deadline is None else min(ANSWER_S, max(0.0, self._deadline - time.monotonic()))

    def until(self, deadline: float) -> Steps:
        """The same for somebody who waits no longer than that, by the monotonic clock."""
        hurried = copy(self)
        hurried._deadline = deadline
        return hurried


def deliveries(*messages: Message) -> list[str | int]:
    """The ticket and the delivery of each, as steps take them."""
    return [word for message in messages for word in (message.ticket, message.delivery)]


Effects = Callable[[Pipeline], object]


def ack_with(steps: Steps, message: Message, effects: Effects) -> bool:
    """False, and no effect, where the message is not its reader's any more.

    Optimistic locking (WATCH) on the inbox's deliveries: whoever changes one in between makes it look again.
    """
    with reaching(steps.url), steps.redis.pipeline() as pipe:
        while True:
            try:
                return _try(steps, pipe, message, effects)
            except WatchError:  # also where the connection is lost meanwhile
                pipe.reset()


def _try(steps: Steps, pipe: Pipeline, message: Message, effects: Effects) -> bool:
    steps("inbox/ack", message.to, message.reader, "")  # loads the library where it is missing: MULTI could not
    pipe.watch(steps.keys.deliveries(message.to))
    if not _is_ours(message, pipe.hget(steps.keys.deliveries(message.to), message.ticket)):
        return False
    pipe.multi()
    effects(pipe)
    pipe.fcall(library.function("inbox/ack"), 1, steps.keys.head, message.to, message.reader, "", *deliveries(message))
    pipe.execute()
    return True


def _is_ours(message: Message, delivery: bytes | str | None) -> bool:
    """As inbox.read_delivery in Lua reads it: how often handed out, in vain, begun, and who has it."""
    if delivery is None:
        return False
    n, _, _, reader = text(delivery).split(" ", 3)
    return (int(n), reader) == (message.delivery, message.reader)
