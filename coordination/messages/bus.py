"""`MessageBus`: what one may do with messages. The page is in the package's docstring."""

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

    `redis` is any client of redis-py, with decoded responses or not. Where Redis does not answer, each method raises
    Unreachable; where it refuses, Unusable. A recipient is `kind:name`, as in `repo:billing`; what is no such name, no JSON,
    too large or not a time is UsageError.
    """

    def __init__(
        self, redis: Redis, namespace: str, *, sender: str | None = None, limits: Limits | None = None
    ) -> None:
        """`sender`: who sends (`host:pid` where nothing is said). What one sender sends arrives in that order."""
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
        """The message's id; it waits in the recipient's inbox when this returns. Raises NotFound for an unknown recipient.

        `ttl` None: as long as the inbox keeps it. `priority`: -100 to 100, higher is sooner. `ack` False: handed out at
        most once. `sequence`: a number of the caller's own; one that this sender sent before changes nothing, so that a
        send whose answer was lost can be repeated. Without it, no repetition that the client library makes counts twice.
        """
        names.recipient(to)
        letter = self._sender.letter(type, payload, ttl=ttl, priority=priority, reply_to=reply_to, ack=ack)
        message_id, offset = self._sender.send(
            sequence, self.steps, lambda steps, n: steps("message/send", to, *letter.numbered(n))
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
        """A copy to each subscriber of the topic, in one step; returns how many there are."""
        names.name(topic, "a topic")
        letter = self._sender.letter(type, payload, ttl=ttl, priority=priority, reply_to=reply_to, ack=ack)
        _, reached = self._sender.send(
            sequence, self.steps, lambda steps, n: steps("message/broadcast", topic, *letter.numbered(n), 0)
        )
        return int(reached)

    def publish(self, topic: str, payload: Any = None, *, type: str = EVENT, sequence: int | None = None) -> int:
        """Publish an event: to whoever listens now, and a copy to each inbox that `subscribe` named.

        Returns how many programs and inboxes it reached; a gateway counts as one. Nobody who listens later gets it.
        """
        topics.topic(topic)
        letter = self._sender.letter(type, payload, ttl=..., priority=0, reply_to=None, ack=True)
        if len(letter.body.encode()) > topics.LARGEST_EVENT:
            raise UsageError(
                f"the payload of an event has more than {topics.LARGEST_EVENT:,} bytes as JSON",
                "store it elsewhere and publish where it is",
            )
        _, reached = self._sender.send(
            sequence, self.steps, lambda steps, n: steps("message/broadcast", topic, *letter.numbered(n), 1)
        )
        return int(reached)

    def listen(self, *patterns: str) -> Subscription:
        """Subscribe to events of these topics (`vbia_events`, `a.*`) from now on, without an inbox: live, without replay."""
        return Subscription(self.steps, patterns)

    def request(self, to: str, type: str, payload: Any = None, *, timeout: timedelta, priority: int = 0) -> Any:
        """The payload of the reply; raises NoReply when none came within `timeout`, which is the request's ttl as well."""
        return requests.request(self, to, type, payload, timeout, priority)

    def reply(self, message: Message, payload: Any = None) -> str:
        """Raises UsageError for a message that wants no reply, NotFound where nobody waits for it any more."""
        return requests.reply(self, message, payload)

    # Recipients

    def register(self, recipient: str) -> str:
        """What is sent to the recipient is kept from now on. Returns the epoch of its inbox."""
        return records.text(self.steps("message/register", names.recipient(recipient)))

    def forget(self, recipient: str) -> bool:
        """The recipient is unknown from now on, and what waits for it is gone. False: it was unknown."""
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
        """What comes for the recipient, for ever: to iterate over, or, with a handler, running until it is stopped.

        `reader`: who of the recipient's this is; one of its own for each that reads at the same time. `since`: the position
        of an earlier time. `prefetch`: how many it has in hand at once, at most: a slow handler has few. `patience`: how long
        Redis may be away before it is Unreachable; for ever where nothing is said. `hear` is told the word with which a
        reader that waits is woken, where it is more than that there is a message; nobody keeps such a word.
        """
        name = reader or f"{process()}:{secrets.token_hex(4)}"
        inbox = Inbox(self, recipient, reader=name, since=since, prefetch=prefetch, patience=patience, hear=hear)
        if handler is not None:
            inbox.run(handler)
        return inbox

    def take(self, recipient: str, reader: str, limit: int = 1, since: Position | None = None) -> Taken:
        """What is there, up to `limit` messages, without waiting; each is to be acknowledged within the idle time.

        `since` is the position that an earlier `take` gave: what it told of is known to have arrived, and is not told again.
        """
        at_most = self._limit(limit, least=0)
        return taking.take(self.steps, self.limits, recipient, reader, at_most, since, all_begun=True)

    def ack(self, message: Message, effects: Effects | None = None) -> bool:
        """The message is done with. False: it was taken over or acknowledged before, and nothing changed.

        `effects` gets a pipeline of redis-py and queues commands in it; they happen together with the acknowledgement, or
        not at all: exactly once, however often the message is delivered. It may be called several times. A command that Redis
        takes and then cannot do (on a key of another kind) is redis-py's ResponseError, and undoes nothing: MULTI has no way back.
        """
        if not message.wants_ack:
            return True
        if effects is not None:
            return ack_with(self.steps, message, effects)
        return not self.ack_all([message])

    def nack(self, message: Message, why: str = "") -> tuple[int, ...]:
        """The message cannot be done now: it comes again after a while, or is dead after too many deliveries.

        Returns the offsets of what its reader no longer has in hand: it, and what came later from the same sender, which
        will be delivered behind it. Nothing: it was not its reader's any more.
        """
        return taking.nack(self.steps, self.limits, message, why)

    def extend(self, *messages: Message) -> tuple[Message, ...]:
        """They are still being worked on, for another idle time. Returns those that were taken over."""
        return taking.extend(self.steps, self.limits, messages)

    def hand_back(self, *messages: Message) -> None:
        """Their reader leaves: they go to others of the recipient at once, and count as no delivery in vain."""
        taking.hand_back(self.steps, messages)

    def hand_back_all(self, recipient: str, reader: str) -> int:
        """As `hand_back`, for a reader that begins anew and does not know what it had in hand before; returns how many."""
        return taking.hand_back_all(self.steps, recipient, reader)

    # Looking

    def peek(self, recipient: str, limit: int = 100, *, payloads: bool = True) -> tuple[Message, ...]:
        """What waits, and what readers have in hand, in the order of arrival; takes nothing. Raises NotFound.

        Without `payloads` they are None: a thousand of 1 MiB are more than an answer should be.
        """
        return admin.peek(self.steps, names.recipient(recipient), self._limit(limit), payloads)

    def settle(self, *messages: Message) -> tuple[Message, ...]:
        """As `ack`, for what was only looked at, of one recipient; returns those that a reader has in hand, or that are gone."""
        return admin.settle(self.steps, messages)

    def recipients(self) -> tuple[str, ...]:
        """All that are known."""
        return admin.recipients(self.steps)

    def standing(self, recipient: str) -> InboxStats:
        """The inbox in figures. Raises NotFound."""
        return admin.standing(self.steps, names.recipient(recipient))

    def presence(self) -> tuple[Presence, ...]:
        """Who reads, or has within `limits.gone`; the last one heard of first."""
        return admin.presence(self.steps, self.limits.gone)

    def dead(self, recipient: str | None = None, limit: int = 100) -> tuple[DeadLetter, ...]:
        """What was given up after too many deliveries, the newest first."""
        return admin.dead(self.steps, recipient and names.recipient(recipient), limit)

    def resend(self, dead_id: str, *, ttl: timedelta | None = None) -> str:
        """The dead letter goes to its recipient again, and is dead no longer. Returns the message's id. Raises NotFound."""
        return admin.resend(self.steps, dead_id, self.limits, ttl)

    def sweep(self) -> MessagesSwept:
        """Removes what is over its ttl or its retention, and the inboxes of `reply:` and `worker:` that are gone."""
        return admin.sweep(self.steps, self.limits)

    # Between this room's own files

    def take_ahead(
        self,
        recipient: str,
        reader: str,
        limit: int,
        since: Position | None,
        known: Iterable[Message] = (),
        done: Sequence[Message] = (),
    ) -> Taken:
        """As `take`, for a reader that begins one after the other: only what it has begun counts as delivered in vain.

        `done` is acknowledged in the same step, before it looks. `known`: all that the reader has in hand besides. What else
        was handed to it, by an answer that was lost, comes again.
        """
        return taking.take(self.steps, self.limits, recipient, reader, limit, since, known, done, all_begun=False)

    def wake(self, recipient: str) -> None:
        """Whoever waits for something to come looks whether it has."""
        self.steps.line.send("PUBLISH", self.steps.keys.mail(recipient), "")

    def until(self, deadline: float) -> MessageBus:
        """The same for somebody who waits no longer than that, by the monotonic clock."""
        hurried = copy(self)
        hurried.steps = self.steps.until(deadline)
        return hurried

    def ack_all(self, messages: Sequence[Message], begun: Message | None = None) -> tuple[Message, ...]:
        """As `ack`, for several of one reader's; returns those that were not its own any more. `begun`: what it does now."""
        return taking.ack(self.steps, messages, begun)

    @staticmethod
    def _limit(limit: int, least: int = 1) -> int:
        if not least <= limit <= MOST_AT_ONCE:
            raise UsageError(f"{limit} messages at once", f"ask for {least} to {MOST_AT_ONCE:,}")
        return limit


def open_bus(redis: Redis, settings: Settings, sender: str | None = None) -> MessageBus:
    """Return a bus with the ecosystem's limits.

    `sender`: the recipient's name that replies go to; without one, the user of this process.
    """
    name = sender or "".join(actor().split())
    limits = Limits(ttl=settings.message_ttl, inbox_limit=settings.inbox_limit, inbox_keep=settings.inbox_keep)
    return MessageBus(redis, settings.namespace, sender=name, limits=limits)
