"""The steps of wire/lua/message and wire/lua/inbox, called on one Redis under one namespace."""

from __future__ import annotations

from typing import Any

from redis import Redis

from coordination.messages.records import Message
from coordination.wire.connection import address_of, reaching
from coordination.wire.keys import Keys
from coordination.wire.scripts import Scripts


class Steps:
    def __init__(self, redis: Redis, namespace: str) -> None:
        self.redis = redis
        self.keys = Keys(namespace).messages
        self.url = address_of(redis)
        self._head = [self.keys.head]
        self._scripts = Scripts(redis)

    def __call__(self, step: str, *args: str | int) -> Any:
        """`message/<step>` or `inbox/<step>`. Raises Unreachable where Redis does not answer, Unusable where it refuses."""
        with reaching(self.url):
            return self._scripts(step, self._head, args)


def deliveries(*messages: Message) -> list[str | int]:
    """The ticket and the delivery of each, as steps take them."""
    return [word for message in messages for word in (message.ticket, message.delivery)]
