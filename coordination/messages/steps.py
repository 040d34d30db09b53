"""The steps of wire/lua/message and wire/lua/inbox, called on one Redis under one namespace."""

from __future__ import annotations

import time
from copy import copy
from typing import Any

from redis import Redis

from coordination.messages.records import Message
from coordination.wire.connection import ANSWER_S
from coordination.wire.keys import Keys
from coordination.wire.line import StepConnection


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
