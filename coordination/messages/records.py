"""Arguments and results of the message bus, frozen, and the conversion of answers of the Lua steps.

A Redis client may decode responses or not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from coordination.backend.steps.message import TakenMessage, TakeReply
from coordination.errors import UsageError
from coordination.messages import names


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Configurable limits of messages."""

    ttl: timedelta = timedelta(seconds=300)
    """Lifetime of a message that sets none."""
    inbox_limit: int = 1000
    """Waiting messages per recipient; beyond it, the oldest of the least urgent is trimmed, which is
    reported.
    """
    inbox_keep: timedelta = timedelta(hours=24)
    """Longest time that a message waits, whatever its ttl."""
    idle: timedelta = timedelta(seconds=30)
    """Silence of a reader after which others take over its messages."""
    deliveries: int = 5
    """Failed deliveries after which a message becomes a dead letter."""
    retry: timedelta = timedelta(seconds=1)
    """Delay before a refused message is delivered again; doubled with each refusal."""
    interval: timedelta = timedelta(seconds=1)
    """Delay that a lost wake-up causes at most."""
    gone: timedelta = timedelta(hours=1)
    """Silence after which a `reply:` or `worker:` recipient is deleted with its inbox."""

    def __post_init__(self) -> None:
        """Raise UsageError for invalid limits."""
        for field in fields(self):
            check = names.milliseconds if isinstance(field.default, timedelta) else names.count
            check(getattr(self, field.name), field.name)


@dataclass(frozen=True)
class Position:
    """Position of a reader in an inbox: everything before it was delivered or reported as missing.

    Its text form is `epoch:offset:trimmed`, to be stored elsewhere.
    """

    epoch: str
    """Id of the server's data; a new one means that the earlier data was lost."""
    offset: int
    """Number of messages that ever arrived in the inbox in this epoch."""
    trimmed: int
    """Number of them that were trimmed."""

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}:{self.trimmed}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Parse the text form. Raises UsageError."""
        epoch, *numbers = text.split(":")
        if not epoch or len(numbers) != 2 or not all(n.isascii() and n.isdigit() for n in (epoch, *numbers)):
            raise UsageError(
                f"invalid position in an inbox: {text[:80]!r}",
                "pass the one that came with the last messages",
            )
        return cls(epoch, int(numbers[0]), int(numbers[1]))


@dataclass(frozen=True, kw_only=True)
class Message:
    id: str
    """Sender and sequence: equal for all deliveries of a message."""
    to: str
    type: str
    payload: Any
    sender: str
    sent_at: datetime
    """Time by the server's clock."""
    offset: int
    """Position in its recipient's inbox, growing within an epoch."""
    priority: int = 0
    reply_to: str | None = None
    wants_ack: bool = True
    deliveries: int = 1
    """1 at first; increased when a reader dies while processing it, or refuses it."""
    reader: str = ""
    """Name of the reader that has it in flight; empty if it was only inspected."""
    delivery: int = 0
    """Number that identifies this delivery among those of the message."""
    ticket: str = ""
    """Identifier for the Lua steps in backend/lua/inbox."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Result of one `take`."""

    messages: tuple[Message, ...]
    recovered: bool
    """False if something is missing that was not reported before: `trimmed` messages, or data that the server
    lost.
    """
    trimmed: int
    """Number of missing messages; 0 with `recovered` False means that the server lost its data and the number
    is unknown.
    """
    position: Position
    due: timedelta | None = None
    """Time until a waiting redelivery is due; only if no message was taken."""
    lost: tuple[Message, ...] = ()
    """Messages acknowledged with this call that the reader no longer had."""

    @property
    def epoch(self) -> str:
        return self.position.epoch

    @property
    def offset(self) -> int:
        return self.position.offset


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    id: str
    """Id to pass to `resend`."""
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
    """Time by the server's clock, updated every 2 s at most."""
    age: timedelta


@dataclass(frozen=True, kw_only=True)
class InboxStats:
    """Figures of an inbox."""

    recipient: str
    waiting: int
    """Messages that can be taken."""
    in_hand: int
    """Messages in flight or waiting for a redelivery."""
    trimmed: int
    expired: int
    dead: int
    """`trimmed`, `expired` and `dead` count since the creation of the inbox."""


@dataclass(frozen=True, kw_only=True)
class MessagesSwept:
    """Result of one `sweep`."""

    expired: int
    trimmed: int
    forgotten: tuple[str, ...]
    """Recipients whose inboxes were deleted."""


def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def entry_fields(values: Mapping[Any, Any] | Sequence[Any]) -> dict[str, str]:
    """Return a hash or a stream entry of redis-py as text."""
    return {text(name): text(value) for name, value in dict(values).items()}


def taken(reply: TakeReply, to: str, reader: str, done: Sequence[Message]) -> Taken:
    return Taken(
        messages=tuple(_delivered(to, reader, message) for message in reply.messages),
        recovered=reply.recovered,
        trimmed=reply.missed,
        position=Position(reply.epoch, reply.offset, reply.trimmed),
        due=None if reply.due_ms < 0 else timedelta(milliseconds=reply.due_ms),
        lost=with_tickets(done, reply.lost),
    )


def _delivered(to: str, reader: str, message: TakenMessage) -> Message:
    delivery, failed, *words = message.facts.split(" ")
    return _message(
        to, words, message.body, deliveries=int(failed) + 1, reader=reader, delivery=int(delivery)
    )


def message(
    to: str, ticket: str, at_ms: str, head: str, body: str, *, deliveries: int, reader: str = ""
) -> Message:
    """Return a message that was only inspected."""
    return _message(
        to, [at_ms, *ticket.split(" "), *head.split(" ")], body, deliveries=deliveries, reader=reader
    )


def _message(
    to: str, words: Sequence[str], body: Any, *, deliveries: int, reader: str, delivery: int = 0
) -> Message:
    at_ms, offset, priority, over, sender, message_id, type, reply_to, acknowledged = words
    return Message(
        id=message_id,
        to=to,
        type=type,
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


def with_tickets(messages: Iterable[Message], tickets: Iterable[str]) -> tuple[Message, ...]:
    named = set(tickets)
    return tuple(message for message in messages if message.ticket in named)


def dead_letter(dead_id: Any, values: Mapping[Any, Any]) -> DeadLetter:
    f = entry_fields(values)
    return DeadLetter(
        id=text(dead_id),
        message=message(
            f["to"], f["ticket"], f["sent_at"], f["head"], f["body"], deliveries=int(f["deliveries"])
        ),
        why=f["why"],
        died_at=moment(int(text(dead_id).partition("-")[0])),
    )
