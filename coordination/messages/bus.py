"""`MessageBus`: all operations on messages. States, invariants and failures are described in the package's
docstring.
"""

from __future__ import annotations

import re
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

from coordination.backend.client import reaching
from coordination.backend.steps.message import (
    Forget,
    Peek,
    PeekedMessage,
    Register,
    Resend,
    Settle,
    Subscribe,
    Tidy,
)
from coordination.durations import MS
from coordination.environment import actor
from coordination.errors import NoReply, NotFound, Unreachable, UsageError
from coordination.messages import names, records, topics
from coordination.messages.inbox import Inbox
from coordination.messages.live import Subscription
from coordination.messages.names import milliseconds
from coordination.messages.reader_operations import ReaderOperations
from coordination.messages.records import (
    DeadLetter,
    InboxStats,
    Limits,
    Message,
    MessagesSwept,
    Position,
    Presence,
    moment,
    text,
)
from coordination.messages.sending import OutgoingMessage, Sender, process
from coordination.messages.steps import Steps
from coordination.settings import Settings
from coordination.text import did_you_mean

EVENT = "event"
REPLY = "reply"
READ_AT_ONCE = 100
DEAD_ID = re.compile(r"\d{1,18}-\d{1,18}")
GONE_KINDS = ("reply:", "worker:")
"""Prefixes of recipients that belong to one process; a new process has a new name."""


class MessageBus(ReaderOperations):
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

    # Inspected and maintained

    def peek(self, recipient: str, limit: int = 100, *, payloads: bool = True) -> tuple[Message, ...]:
        """Return waiting and in-flight messages in order of arrival, without taking them. Raises NotFound.

        Without `payloads` they are None, because a thousand of 1 MiB are too much for one answer.
        """
        names.recipient(recipient)
        rows = self.steps(Peek(recipient=recipient, limit=names.at_once(limit), payloads=int(payloads)))
        if rows is None:
            raise self._unknown(recipient)
        found = (_inspected(recipient, row) for row in rows)
        return tuple(sorted(found, key=lambda message: message.offset))

    def settle(self, *messages: Message) -> tuple[Message, ...]:
        """Acknowledge messages of one recipient that `peek` returned; returns those that are in flight or no
        longer exist.
        """
        if not messages:
            return ()
        tickets = [message.ticket for message in messages]
        return records.with_tickets(messages, self.steps(Settle(recipient=messages[0].to, tickets=tickets)))

    def recipients(self) -> tuple[str, ...]:
        """Return all known recipients."""
        with reaching(self.steps.url):
            return tuple(sorted(map(text, self.steps.redis.zrange(self.steps.keys.recipients, 0, -1))))

    def standing(self, recipient: str) -> InboxStats:
        """Return the figures of an inbox. Raises NotFound."""
        keys = self.steps.keys
        names.recipient(recipient)
        with reaching(self.steps.url), self.steps.redis.pipeline(transaction=True) as pipe:
            pipe.zscore(keys.recipients, recipient)
            pipe.zcard(keys.ready(recipient))
            pipe.zcard(keys.pending(recipient))
            pipe.hmget(keys.facts(recipient), ["trimmed", "expired", "dead"])
            known, waiting, in_hand, counts = pipe.execute()
        if known is None:
            raise self._unknown(recipient)
        trimmed, expired, dead = (int(count or 0) for count in counts)
        return InboxStats(
            recipient=recipient, waiting=waiting, in_hand=in_hand, trimmed=trimmed, expired=expired, dead=dead
        )

    def presence(self) -> tuple[Presence, ...]:
        """Return readers that were seen within `limits.gone`, the latest first."""
        with reaching(self.steps.url), self.steps.redis.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.zrevrange(self.steps.keys.readers, 0, -1, withscores=True)
            (seconds, micros), rows = pipe.execute()
        now_ms, gone_ms = int(seconds) * 1000 + int(micros) // 1000, self.limits.gone / MS
        return tuple(
            _reader(text(who), int(at_ms), now_ms) for who, at_ms in rows if now_ms - at_ms < gone_ms
        )

    def dead(self, recipient: str | None = None, limit: int = 100) -> tuple[DeadLetter, ...]:
        """Return dead letters, the newest first."""
        if recipient:
            names.recipient(recipient)
        found: list[DeadLetter] = []
        last = "+"
        while len(found) < limit and (rows := self._older(last)):
            letters = (_dead_letter(dead_id, values) for dead_id, values in rows)
            found += [letter for letter in letters if letter and recipient in (None, letter.message.to)]
            last = f"({text(rows[-1][0])}"
        return tuple(found[:limit])

    def resend(self, dead_id: str, *, ttl: timedelta | None = None) -> str:
        """Send a dead letter to its recipient again and return the message's id. Raises NotFound."""
        ttl_ms = 0 if ttl is None else names.milliseconds(ttl, "ttl")
        word, what = "none", dead_id
        if DEAD_ID.fullmatch(dead_id):
            word, what = self.steps(
                Resend(
                    dead_letter=dead_id, ttl_ms=ttl_ms, inbox_limit=self.limits.inbox_limit,
                    keep_ms=self.limits.inbox_keep // MS,
                )
            )  # fmt: skip
        if word == "sent":
            return what
        if word == "unknown":
            raise NotFound(f"the recipient {what} no longer exists", "register it, then send again")
        raise NotFound(f"there is no dead letter {dead_id[:80]!r}", "list them: coord message dead")

    def sweep(self) -> MessagesSwept:
        """Delete expired messages and those over the retention, and inboxes of vanished `reply:` and
        `worker:` recipients.
        """
        steps, gone_ms = self.steps, self.limits.gone // MS
        expired = trimmed = 0
        forgotten: list[str] = []
        for recipient in self.recipients():
            if recipient.startswith(GONE_KINDS) and steps(Forget(recipient=recipient, silent_ms=gone_ms)):
                forgotten.append(recipient)
                continue
            tidied = steps(
                Tidy(
                    recipient=recipient, deliveries=self.limits.deliveries,
                    keep_ms=self.limits.inbox_keep // MS,
                )
            )  # fmt: skip
            expired, trimmed = expired + tidied.expired, trimmed + tidied.trimmed
        with reaching(steps.url):
            seconds, _ = steps.redis.time()
            steps.redis.zremrangebyscore(steps.keys.readers, "-inf", seconds * 1000 - gone_ms)
        return MessagesSwept(expired=expired, trimmed=trimmed, forgotten=tuple(forgotten))

    def _unknown(self, recipient: str) -> NotFound:
        near = did_you_mean(recipient, self.recipients())
        return NotFound(
            f"there is no recipient {recipient}{near}",
            "a recipient exists once it was registered or has received",
        )

    def _older(self, last: str) -> list[Any]:
        with reaching(self.steps.url):
            rows: list[Any] = self.steps.redis.xrevrange(
                self.steps.keys.dead_letters, last, "-", count=READ_AT_ONCE
            )
        return rows

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


def _inspected(recipient: str, row: PeekedMessage) -> Message:
    return records.message(
        recipient, row.ticket, row.at_ms, row.head, row.body, deliveries=row.failed + 1, reader=row.reader
    )


def _reader(who: str, at_ms: int, now_ms: int) -> Presence:
    recipient, reader, host, pid = who.split(" ")
    age = timedelta(milliseconds=max(0, now_ms - at_ms))
    return Presence(recipient=recipient, reader=reader, host=host, pid=int(pid), seen=moment(at_ms), age=age)


def _dead_letter(dead_id: Any, values: Any) -> DeadLetter | None:
    """Return the dead letter; None for a foreign entry, because other programs can write to Redis, too."""
    try:
        return records.dead_letter(dead_id, values)
    except (KeyError, ValueError, OverflowError, RecursionError):
        return None
