"""Operations on inboxes, each in one Lua step: by readers, and by people and programs that maintain them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from coordination.backend.client import reaching
from coordination.backend.steps.message import (
    Ack,
    Extend,
    Forget,
    HandBack,
    Nack,
    Peek,
    PeekedMessage,
    Resend,
    Settle,
    Take,
    Tidy,
)
from coordination.durations import MS
from coordination.errors import NotFound
from coordination.messages import names, records
from coordination.messages.records import (
    DeadLetter,
    InboxStats,
    Limits,
    Message,
    MessagesSwept,
    Position,
    Presence,
    Taken,
    moment,
    text,
)
from coordination.messages.sending import process
from coordination.messages.steps import Effects, Steps, ack_with, deliveries
from coordination.text import did_you_mean

READ_AT_ONCE = 100
DEAD_ID = re.compile(r"\d{1,18}-\d{1,18}")
GONE_KINDS = ("reply:", "worker:")
"""Prefixes of recipients that belong to one process; a new process has a new name."""


class ReaderOperations:
    """The part of `MessageBus` that readers of an inbox use."""

    steps: Steps
    limits: Limits

    def take(self, recipient: str, reader: str, limit: int = 1, since: Position | None = None) -> Taken:
        """Take up to `limit` messages without waiting; each must be acknowledged within the idle time.

        `since` is the position that an earlier `take` returned; it confirms the receipt of what that one
        reported.
        """
        at_most = names.at_once(limit, least=0)
        return _take(self.steps, self.limits, recipient, reader, at_most, since, all_begun=True)

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
        step = Nack(
            recipient=message.to, reader=message.reader, why=names.utf8(why[:1000]),
            wait_ms=self.limits.retry // MS, deliveries=self.limits.deliveries,
            ticket=message.ticket, delivery=message.delivery,
        )  # fmt: skip
        return tuple(int(ticket.partition(" ")[0]) for ticket in self.steps(step))

    def extend(self, *messages: Message) -> tuple[Message, ...]:
        """Extend messages by another idle time. Returns those that another reader has taken over."""
        if not messages:
            return ()
        step = Extend(
            recipient=messages[0].to, reader=messages[0].reader, place=_host_and_pid(),
            idle_ms=self.limits.idle // MS, messages=deliveries(messages),
        )  # fmt: skip
        return records.with_tickets(messages, self.steps(step))

    def hand_back(self, *messages: Message) -> None:
        """Return messages unprocessed: other readers get them at once, and the delivery does not count as
        failed.
        """
        if messages:
            first = messages[0]
            self.steps(HandBack(recipient=first.to, reader=first.reader, messages=deliveries(messages)))

    def hand_back_all(self, recipient: str, reader: str) -> int:
        """Return all messages of a reader that restarts and does not know them; returns their number."""
        names.recipient(recipient)
        return self.steps(HandBack(recipient=recipient, reader=names.name(reader, "a reader"), messages=()))

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
        messages in a reply that the reader never received are delivered again.
        """
        return _take(self.steps, self.limits, recipient, reader, limit, since, known, done, all_begun=False)

    def wake(self, recipient: str) -> None:
        """Wake readers that wait for messages of the recipient."""
        self.steps.connection.send("PUBLISH", self.steps.keys.mail(recipient), "")

    def ack_all(self, messages: Sequence[Message], begun: Message | None = None) -> tuple[Message, ...]:
        """Acknowledge several messages of one reader; return those that it no longer had. `begun` is the one
        it starts now.
        """
        of = (*messages, begun)[0]
        if of is None:
            return ()
        step = Ack(
            recipient=of.to, reader=of.reader, begun=begun.ticket if begun else "",
            messages=deliveries(messages),
        )  # fmt: skip
        return records.with_tickets(messages, self.steps(step))


def _take(
    steps: Steps,
    limits: Limits,
    to: str,
    reader: str,
    limit: int,
    since: Position | None,
    known: Iterable[Message] = (),
    done: Sequence[Message] = (),
    *,
    all_begun: bool,
) -> Taken:
    names.recipient(to)
    names.name(reader, "a reader")
    step = Take(
        recipient=to, reader=reader, place=_host_and_pid(), limit=limit, idle_ms=limits.idle // MS,
        deliveries=limits.deliveries, all_begun=int(all_begun), epoch=since.epoch if since else "",
        offset=since.offset if since else "", trimmed=since.trimmed if since else "",
        done=deliveries(done), known=[message.ticket for message in known],
    )  # fmt: skip
    return records.taken(steps(step), to, reader, done)


def _host_and_pid() -> str:
    """Return `host pid`."""
    return process().replace(":", " ")


class InboxOperations(ReaderOperations):
    """Inspection and maintenance of inboxes and dead letters, in addition to the operations of readers."""

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
