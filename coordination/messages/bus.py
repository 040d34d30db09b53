"""`MessageBus`: all operations on messages. States, invariants and failures are described in the package's
docstring.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from datetime import timedelta
from types import EllipsisType
from typing import Any

from redis import Redis

from coordination.environment import actor
from coordination.errors import UsageError
from coordination.messages import admin, names, records, requests, taking, topics
from coordination.messages.inbox import Inbox
from coordination.messages.live import Subscription
from coordination.messages.records import (
    DeadLetter,
    InboxStats,
    Limits,
    Message,
    MessagesSwept,
    Position,
    Presence,
    Taken,
)
from coordination.messages.sending import Sender, process
from coordination.messages.steps import Effects, Steps, ack_with
from coordination.settings import Settings

MOST_AT_ONCE = 1000
EVENT = "event"


class MessageBus:
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
        outgoing = self._sender.outgoing(type, payload, ttl=ttl, priority=priority, reply_to=reply_to, ack=ack)
        message_id, offset = self._sender.send(
            sequence, self.steps, lambda steps, n: steps("message/send", to, *outgoing.numbered(n))
        )
        if offset < 0:
            raise admin.unknown(self.steps, to)
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
        outgoing = self._sender.outgoing(type, payload, ttl=ttl, priority=priority, reply_to=reply_to, ack=ack)
        _, reached = self._sender.send(
            sequence, self.steps, lambda steps, n: steps("message/broadcast", topic, *outgoing.numbered(n), 0)
        )
        return int(reached)

    def publish(self, topic: str, payload: Any = None, *, type: str = EVENT, sequence: int | None = None) -> int:
        """Publish an event to current listeners, and a copy to each inbox that subscribed.

        Returns the number of programs and inboxes reached; a gateway counts as one. Later listeners do not
        get it.
        """
        topics.topic(topic)
        outgoing = self._sender.outgoing(type, payload, ttl=..., priority=0, reply_to=None, ack=True)
        if len(outgoing.body.encode()) > topics.LARGEST_EVENT:
            raise UsageError(
                f"the payload of an event has more than {topics.LARGEST_EVENT:,} bytes as JSON",
                "store it elsewhere and publish its location",
            )
        _, reached = self._sender.send(
            sequence, self.steps, lambda steps, n: steps("message/broadcast", topic, *outgoing.numbered(n), 1)
        )
        return int(reached)

    def listen(self, *patterns: str) -> Subscription:
        """Subscribe to events of these topics (`vbia_events`, `a.*`) from now on, live and
        without an inbox.
        """
        return Subscription(self.steps, patterns)

    def request(self, to: str, type: str, payload: Any = None, *, timeout: timedelta, priority: int = 0) -> Any:
        """Send a request and return the payload of the reply. Raises NoReply after `timeout`, which is also
        the request's ttl.
        """
        return requests.request(self, to, type, payload, timeout, priority)

    def reply(self, message: Message, payload: Any = None) -> str:
        """Reply to a message. Raises UsageError if it wants no reply, NotFound if the requester no longer
        waits.
        """
        return requests.reply(self, message, payload)

    # Recipients

    def register(self, recipient: str) -> str:
        """Create the recipient's inbox, so that messages to it are kept. Returns the epoch of its inbox."""
        return records.text(self.steps("message/register", names.recipient(recipient)))

    def forget(self, recipient: str) -> bool:
        """Delete the recipient and its waiting messages. Returns False if it was unknown."""
        return bool(self.steps("message/forget", names.recipient(recipient), 0))

    def subscribe(self, recipient: str, topic: str) -> None:
        self.steps("message/subscribe", names.recipient(recipient), names.name(topic, "a topic"), 1)

    def unsubscribe(self, recipient: str, topic: str) -> None:
        self.steps("message/subscribe", names.recipient(recipient), names.name(topic, "a topic"), 0)

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
        inbox = Inbox(self, recipient, reader=name, since=since, prefetch=prefetch, patience=patience, hear=hear)
        if handler is not None:
            inbox.run(handler)
        return inbox

    def take(self, recipient: str, reader: str, limit: int = 1, since: Position | None = None) -> Taken:
        """Take up to `limit` messages without waiting; each must be acknowledged within the idle time.

        `since` is the position that an earlier `take` returned; it confirms the receipt of what that one
        reported.
        """
        at_most = self._limit(limit, least=0)
        return taking.take(self.steps, self.limits, recipient, reader, at_most, since, all_begun=True)

    def ack(self, message: Message, effects: Effects | None = None) -> bool:
        """Acknowledge a message. Returns False, without effect, if it was taken over or acknowledged before.

        `effects` gets a redis-py pipeline to queue commands, which are executed together with the
        acknowledgement or not at all: exactly once, however often the message is delivered. It may be called
        several times. If Redis accepts a command but cannot execute it (a key of another type), redis-py
        raises ResponseError and nothing is undone, because MULTI has no rollback.
        """
        if not message.wants_ack:
            return True
        if effects is not None:
            return ack_with(self.steps, message, effects)
        return not self.ack_all([message])

    def nack(self, message: Message, why: str = "") -> tuple[int, ...]:
        """Refuse a message for now: it is delivered again after a delay, or becomes a dead letter after too
        many deliveries.

        Returns the offsets of the messages that the reader no longer has: this one, and later ones of the
        same sender, which will be delivered after it; () if the reader did not have it any more.
        """
        return taking.nack(self.steps, self.limits, message, why)

    def extend(self, *messages: Message) -> tuple[Message, ...]:
        """Extend messages by another idle time. Returns those that another reader has taken over."""
        return taking.extend(self.steps, self.limits, messages)

    def hand_back(self, *messages: Message) -> None:
        """Return messages unprocessed: other readers get them at once, and the delivery does not count as
        failed.
        """
        taking.hand_back(self.steps, messages)

    def hand_back_all(self, recipient: str, reader: str) -> int:
        """Return all messages of a reader that restarts and does not know them; returns their number."""
        return taking.hand_back_all(self.steps, recipient, reader)

    # Inspection

    def peek(self, recipient: str, limit: int = 100, *, payloads: bool = True) -> tuple[Message, ...]:
        """Return waiting and in-flight messages in order of arrival, without taking them. Raises NotFound.

        Without `payloads` they are None, because a thousand of 1 MiB are too much for one answer.
        """
        return admin.peek(self.steps, names.recipient(recipient), self._limit(limit), payloads)

    def settle(self, *messages: Message) -> tuple[Message, ...]:
        """Acknowledge messages of one recipient that `peek` returned; returns those that are in flight or no
        longer exist.
        """
        return admin.settle(self.steps, messages)

    def recipients(self) -> tuple[str, ...]:
        """Return all known recipients."""
        return admin.recipients(self.steps)

    def standing(self, recipient: str) -> InboxStats:
        """Return the figures of an inbox. Raises NotFound."""
        return admin.stats(self.steps, names.recipient(recipient))

    def presence(self) -> tuple[Presence, ...]:
        """Return readers that were seen within `limits.gone`, the latest first."""
        return admin.presence(self.steps, self.limits.gone)

    def dead(self, recipient: str | None = None, limit: int = 100) -> tuple[DeadLetter, ...]:
        """Return dead letters, the newest first."""
        return admin.dead(self.steps, recipient and names.recipient(recipient), limit)

    def resend(self, dead_id: str, *, ttl: timedelta | None = None) -> str:
        """Send a dead letter to its recipient again and return the message's id. Raises NotFound."""
        return admin.resend(self.steps, dead_id, self.limits, ttl)

    def sweep(self) -> MessagesSwept:
        """Delete expired messages and those over the retention, and inboxes of vanished `reply:` and
        `worker:` recipients.
        """
        return admin.sweep(self.steps, self.limits)

    # For other modules of this package

    def take_ahead(
        self,
        recipient: str,
        reader: str,
        limit: int,
        since: Position | None,
        known: Iterable[Message] = (),
        done: Sequence[Message] = (),
    ) -> Taken:
        """Take as `take`, for a reader that starts messages one by one: only a started one can count as a
        failed delivery.

        `done` is acknowledged in the same step, beforehand. `known` are all other messages in flight;
        messages that were handed to the reader by a lost answer are delivered again.
        """
        return taking.take(self.steps, self.limits, recipient, reader, limit, since, known, done, all_begun=False)

    def wake(self, recipient: str) -> None:
        """Wake readers that wait for messages of the recipient."""
        self.steps.line.send("PUBLISH", self.steps.keys.mail(recipient), "")

    def until(self, deadline: float) -> MessageBus:
        """Return a bus whose calls wait no longer than the deadline, by the monotonic clock."""
        copied = copy(self)
        copied.steps = self.steps.until(deadline)
        return copied

    def ack_all(self, messages: Sequence[Message], begun: Message | None = None) -> tuple[Message, ...]:
        """Acknowledge several messages of one reader; return those that it no longer had. `begun` is the one
        it starts now.
        """
        return taking.ack(self.steps, messages, begun)

    @staticmethod
    def _limit(limit: int, least: int = 1) -> int:
        if not least <= limit <= MOST_AT_ONCE:
            raise UsageError(f"invalid number of messages: {limit}", f"ask for {least} to {MOST_AT_ONCE:,}")
        return limit


def open_bus(redis: Redis, settings: Settings, sender: str | None = None) -> MessageBus:
    """Return a bus with the ecosystem's limits.

    `sender` is the name of the recipient that replies go to; without it, the user of this process.
    """
    name = sender or "".join(actor().split())
    limits = Limits(ttl=settings.message_ttl, inbox_limit=settings.inbox_limit, inbox_keep=settings.inbox_keep)
    return MessageBus(redis, settings.namespace, sender=name, limits=limits)
