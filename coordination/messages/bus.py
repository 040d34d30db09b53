"""`MessageBus`: all operations on messages. States, invariants and failures are described in the package's
docstring.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from datetime import timedelta
from types import EllipsisType
from typing import Any

from redis import Redis

from coordination.backend.steps.message import Forget, Register, Subscribe
from coordination.environment import actor
from coordination.errors import NoReply, Unreachable, UsageError
from coordination.messages import names, topics
from coordination.messages.inbox import Inbox
from coordination.messages.live import Subscription
from coordination.messages.names import milliseconds
from coordination.messages.operations import InboxOperations
from coordination.messages.records import (
    Limits,
    Message,
    Position,
)
from coordination.messages.sending import OutgoingMessage, Sender, process
from coordination.messages.steps import Steps
from coordination.settings import Settings

EVENT = "event"
REPLY = "reply"


class MessageBus(InboxOperations):
    """Messages on one Redis, under one namespace. Threads may share it.

    `redis` is any redis-py client, with decoded responses or not. Each method raises Unreachable if Redis
    does not answer, Unusable if it refuses, and UsageError for an invalid recipient (`kind:name`, as in
    `repo:billing`), payload or time.
    """

    def __init__(
        self, redis: Redis, namespace: str, *, sender: str | None = None, limits: Limits | None = None
    ) -> None:
        """`sender` names the sender (default: `host:pid`); messages of one sender arrive in order."""
        self.limits = limits or Limits()
        self.steps = Steps(redis, namespace)
        self._sender = Sender(sender, self.limits)

    # Sending

    def send(
        self,
        to: str,
        type: str,
        payload: Any = None,
        *,
        ttl: timedelta | EllipsisType | None = ...,
        priority: int = 0,
        reply_to: str | None = None,
        ack: bool = True,
        sequence: int | None = None,
    ) -> str:
        """Send a message and return its id; it is in the recipient's inbox on return. Raises NotFound for an
        unknown recipient.

        `ttl` None keeps it as long as the inbox does. `priority` is -100 to 100, higher is sooner. `ack`
        False delivers it at most once. `sequence` is a number of the caller's: repeating one has no effect,
        so that a send whose answer was lost can be repeated. Without it, retries of the client library are
        not delivered twice either.
        """
        names.recipient(to)
        outgoing = self._sender.outgoing(
            type, payload, ttl=ttl, priority=priority, reply_to=reply_to, ack=ack
        )
        message_id, offset = self._sender.send(
            sequence, self.steps, lambda steps, number: steps(outgoing.to(to, number))
        )
        if offset < 0:
            raise self._unknown(to)
        return message_id

    def broadcast(
        self,
        topic: str,
        type: str,
        payload: Any = None,
        *,
        ttl: timedelta | EllipsisType | None = ...,
        priority: int = 0,
        reply_to: str | None = None,
        ack: bool = True,
        sequence: int | None = None,
    ) -> int:
        """Send a copy to each subscriber of the topic in one step; return their number."""
        names.name(topic, "a topic")
        outgoing = self._sender.outgoing(
            type, payload, ttl=ttl, priority=priority, reply_to=reply_to, ack=ack
        )
        return self._spread(topic, outgoing, sequence, live=False)

    def publish(
        self, topic: str, payload: Any = None, *, type: str = EVENT, sequence: int | None = None
    ) -> int:
        """Publish an event on a topic; return the number of programs and inboxes that it reached: inboxes
        that subscribed get a copy, a gateway counts as one.
        """
        if topics.is_of_coord(topics.topic(topic)):
            raise UsageError(
                f"{topic!r:.100} is a topic of coord's own events", "publish on another topic, like a.b"
            )
        outgoing = self._sender.outgoing(type, payload, ttl=..., priority=0, reply_to=None, ack=True)
        if len(outgoing.body.encode()) > topics.LARGEST_EVENT:
            raise UsageError(
                f"the payload of an event has more than {topics.LARGEST_EVENT:,} bytes as JSON",
                "store it elsewhere and publish its location",
            )
        return self._spread(topic, outgoing, sequence, live=True)

    def _spread(self, topic: str, outgoing: OutgoingMessage, sequence: int | None, *, live: bool) -> int:
        """Send a copy to each subscriber of the topic, with `live` also to current listeners."""

        def deliver(steps: Steps, number: str) -> int:
            return steps(outgoing.to_subscribers(topic, number, live=live))

        return self._sender.send(sequence, self.steps, deliver)[1]

    def listen(self, *patterns: str) -> Subscription:
        """Return a subscription to topics such as `vbia_events`, or patterns such as `a.*`, from now on. It
        misses events while Redis is away. No inbox is needed.
        """
        return Subscription(self.steps, patterns)

    def request(
        self, to: str, type: str, payload: Any = None, *, timeout: timedelta, priority: int = 0
    ) -> Any:
        """Send a request and return the payload of the reply. Raises NoReply after `timeout`, which is also
        the request's ttl.
        """
        milliseconds(timeout, "timeout")
        deadline = time.monotonic() + timeout.total_seconds()
        bus = self.until(deadline)
        with _own_inbox(bus) as here, bus.receive(here, patience=timeout) as inbox:
            bus.send(to, type, payload, ttl=timeout, priority=priority, reply_to=here)
            answer = inbox.next(timedelta(seconds=max(0.0, deadline - time.monotonic())))
            if answer is None:
                raise NoReply(
                    f"{to} did not reply to {type!r} within {timeout.total_seconds():g} s",
                    "check that a program reads this recipient's inbox",
                )
            return answer.payload  # not acknowledged: the inbox is deleted with it

    def reply(self, message: Message, payload: Any = None) -> str:
        """Reply to a message. Raises UsageError if it does not expect a reply, NotFound if the requester no
        longer waits.
        """
        if message.reply_to is None:
            raise UsageError(
                f"message {message.id} of type {message.type!r} does not expect a reply",
                "send a new message instead",
            )
        return self.send(message.reply_to, REPLY, payload)

    # Recipients

    def register(self, recipient: str) -> str:
        """Create the recipient's inbox, so that messages to it are kept. Returns the epoch of its inbox."""
        return self.steps(Register(recipient=names.recipient(recipient)))

    def forget(self, recipient: str) -> bool:
        """Delete the recipient and its waiting messages. Returns False if it was unknown."""
        return self.steps(Forget(recipient=names.recipient(recipient), silent_ms=0))

    def subscribe(self, recipient: str, topic: str) -> None:
        self._subscribe(recipient, topic, on=1)

    def unsubscribe(self, recipient: str, topic: str) -> None:
        self._subscribe(recipient, topic, on=0)

    def _subscribe(self, recipient: str, topic: str, on: int) -> None:
        names.recipient(recipient)
        self.steps(Subscribe(recipient=recipient, topic=names.name(topic, "a topic"), on=on))

    # Receiving

    def receive(
        self,
        recipient: str,
        handler: Callable[[Message], object] | None = None,
        *,
        reader: str | None = None,
        since: Position | None = None,
        prefetch: int = 128,
        patience: timedelta | None = None,
        hear: Callable[[str], object] = lambda _: None,
    ) -> Inbox:
        """Receive the recipient's messages: iterate over the returned inbox, or pass a handler to run until
        it is stopped.

        `reader` identifies this reader; concurrent readers of a recipient need different names. `since` is
        the position of an earlier session. `prefetch` limits the messages in flight; slow handlers should
        have few. `patience` limits an outage of Redis before Unreachable is raised (default: no limit).
        `hear` is called with the word of a wake-up that carries one; such words are not stored.
        """
        name = reader or f"{process()}:{secrets.token_hex(4)}"
        inbox = Inbox(
            self, recipient, reader=name, since=since, prefetch=prefetch, patience=patience, hear=hear
        )
        if handler is not None:
            inbox.run(handler)
        return inbox

    # For other modules of this package

    def until(self, deadline: float) -> MessageBus:
        """Return a bus whose calls wait no longer than the deadline, by the monotonic clock."""
        copied = copy(self)
        copied.steps = self.steps.until(deadline)
        return copied


def open_bus(redis: Redis, settings: Settings, sender: str | None = None) -> MessageBus:
    """Return a bus with the ecosystem's limits.

    `sender` is the name of the recipient that replies go to; without it, the user of this process.
    """
    name = sender or "".join(actor().split())
    limits = Limits(
        ttl=settings.message_ttl, inbox_limit=settings.inbox_limit, inbox_keep=settings.inbox_keep
    )
    return MessageBus(redis, settings.namespace, sender=name, limits=limits)


@contextmanager
def _own_inbox(bus: MessageBus) -> Iterator[str]:
    here = f"reply:{uuid.uuid4().hex}"
    bus.register(here)
    try:
        yield here
    finally:
        with suppress(Unreachable):  # a sweep deletes it; the earlier error is more useful
            bus.forget(here)
