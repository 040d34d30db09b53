"""What the bus is given and what it hands out; all of it frozen.

What the steps in backend/lua/message and backend/lua/inbox answer, as records. A client may decode responses or not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from coordination.errors import UsageError
from coordination.messages import names


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Every figure of messages that someone may want to change."""

    ttl: timedelta = timedelta(seconds=300)
    """Of a message that names none: later it is not delivered."""
    inbox_limit: int = 1000
    """So many messages wait for a recipient at most; then, of what is least urgent, the oldest is trimmed, and that is told."""
    inbox_keep: timedelta = timedelta(hours=24)
    """So long a message waits at most, whatever its ttl."""
    idle: timedelta = timedelta(seconds=30)
    """A reader that is not heard of for so long has its messages taken over."""
    deliveries: int = 5
    """After so many in vain a message is dead."""
    retry: timedelta = timedelta(seconds=1)
    """Until a refused message is delivered again; doubled with each refusal."""
    interval: timedelta = timedelta(seconds=1)
    """So long a lost wake-up costs at most."""
    gone: timedelta = timedelta(hours=1)
    """A `reply:` or `worker:` that is not heard of for so long does not come back: its inbox is forgotten."""

    def __post_init__(self) -> None:
        """Raises UsageError for what is no limit."""
        for field in fields(self):
            check = names.milliseconds if isinstance(field.default, timedelta) else names.count
            check(getattr(self, field.name), field.name)


@dataclass(frozen=True)
class Position:
    """How far a recipient has come: up to it everything was handed out to it, or it was told of what is missing.

    As text `epoch:offset:trimmed`, for whoever keeps it elsewhere.
    """

    epoch: str
    """Of the data that the server has: another one means that it lost the former."""
    offset: int
    """Messages that ever came into the inbox, in this epoch."""
    trimmed: int
    """How many of them were trimmed."""

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}:{self.trimmed}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Raises UsageError for what was never a position."""
        epoch, *numbers = text.split(":")
        if not epoch or len(numbers) != 2 or not all(n.isascii() and n.isdigit() for n in (epoch, *numbers)):
            raise UsageError(f"{text[:80]!r} is no position in an inbox", "give back what came with the last messages")
        return cls(epoch, int(numbers[0]), int(numbers[1]))


@dataclass(frozen=True, kw_only=True)
class Message:
    id: str
    """Of its sender and sequence: the same message has the same id wherever and however often it is delivered."""
    to: str
    type: str
    payload: Any
    sender: str
    sent_at: datetime
    """By the server's clock."""
    offset: int
    """Its place in its recipient's inbox; later ones are greater, within an epoch."""
    priority: int = 0
    reply_to: str | None = None
    wants_ack: bool = True
    deliveries: int = 1
    """1 at first; one more for each time that a reader died over it or refused it."""
    reader: str = ""
    """Who has it in hand; empty where it was only looked at."""
    delivery: int = 0
    """Tells this delivery from later ones of the same message."""
    ticket: str = ""
    """What the steps in backend/lua/inbox know it by."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What one `take` handed out."""

    messages: tuple[Message, ...]
    recovered: bool
    """False: something is missing that nobody has been told of: `trimmed` messages, or what the server lost with its data."""
    trimmed: int
    """How many are missing; 0 with `recovered` False: the server lost its data, and nobody knows."""
    position: Position
    due: timedelta | None = None
    """Until a message that waits for its next delivery can be taken; only where there is none now."""
    lost: tuple[Message, ...] = ()
    """Of what was acknowledged with it: those that were not the reader's own any more."""

    @property
    def epoch(self) -> str:
        return self.position.epoch

    @property
    def offset(self) -> int:
        return self.position.offset


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    id: str
    """For `resend`."""
    message: Message
    why: str
    died_at: datetime


@dataclass(frozen=True, kw_only=True)
class Presence:
    recipient: str
    reader: str
    host: str
    pid: int
    seen: datetime
    """By the server's clock; written every 2 s at most."""
    age: timedelta


@dataclass(frozen=True, kw_only=True)
class InboxStats:
    """An inbox in figures."""

    recipient: str
    waiting: int
    """Ready for whoever takes them."""
    in_hand: int
    """Handed out, or waiting for another try."""
    trimmed: int
    expired: int
    dead: int
    """All three since the inbox was made."""


@dataclass(frozen=True, kw_only=True)
class MessagesSwept:
    """What one `sweep` removed."""

    expired: int
    trimmed: int
    forgotten: tuple[str, ...]
    """Inboxes of recipients that are gone for good."""


def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def entry_fields(values: Mapping[Any, Any] | Sequence[Any]) -> dict[str, str]:
    """A hash or a stream entry, as redis-py gives it."""
    return {text(name): text(value) for name, value in dict(values).items()}


def taken(answer: Sequence[Any], to: str, reader: str, done: Sequence[Message]) -> Taken:
    (epoch, offset, trimmed, recovered, missed, due), rows, lost = answer
    return Taken(
        messages=tuple(_delivered(to, reader, *rows[i : i + 2]) for i in range(0, len(rows), 2)),
        recovered=recovered == 1,
        trimmed=missed,
        position=Position(text(epoch), offset, trimmed),
        due=None if due < 0 else timedelta(milliseconds=due),
        lost=those(done, lost),
    )


def _delivered(to: str, reader: str, facts: Any, body: Any) -> Message:
    words = text(facts).split(" ")
    return _message(to, words[2:], body, deliveries=int(words[1]) + 1, reader=reader, delivery=int(words[0]))


def message(to: str, ticket: str, at_ms: str, head: str, body: str, *, deliveries: int, reader: str = "") -> Message:
    """One that is only looked at."""
    return _message(to, [at_ms, *ticket.split(" "), *head.split(" ")], body, deliveries=deliveries, reader=reader)


def _message(to: str, words: Sequence[str], body: Any, *, deliveries: int, reader: str, delivery: int = 0) -> Message:
    at_ms, offset, priority, over, sender, message_id, kind, reply_to, acknowledged = words
    return Message(
        id=message_id,
        to=to,
        type=kind,
        payload=json.loads(body),
        sender=sender,
        sent_at=moment(int(at_ms)),
        offset=int(offset),
        priority=int(priority),
        reply_to=None if reply_to == "-" else reply_to,
        wants_ack=acknowledged == "1",
        deliveries=deliveries,
        reader=reader,
        delivery=delivery,
        ticket=f"{offset} {priority} {over} {sender}",
    )


def those(messages: Iterable[Message], tickets: Iterable[Any]) -> tuple[Message, ...]:
    named = set(map(text, tickets))
    return tuple(message for message in messages if message.ticket in named)


def dead_letter(dead_id: Any, values: Mapping[Any, Any]) -> DeadLetter:
    f = entry_fields(values)
    return DeadLetter(
        id=text(dead_id),
        message=message(f["to"], f["ticket"], f["sent_at"], f["head"], f["body"], deliveries=int(f["deliveries"])),
        why=f["why"],
        died_at=moment(int(text(dead_id).partition("-")[0])),
    )
