"""Declares the steps in lua/message and lua/inbox."""

# No `from __future__ import annotations`: Step reads the types of the fields.
from collections.abc import Collection
from typing import Any, NamedTuple

from coordination.backend.steps.step import (
    OOM,
    READS,
    NumberStep,
    Step,
    TextsStep,
    TextStep,
    TruthStep,
    checked,
    text,
)

Deliveries = Collection[tuple[str, int]]
"""Ticket and number of each delivery."""


class Send(NumberStep, name="message/send"):
    """Returns the message's offset; 0 if it was sent before; -1 for an unknown recipient."""

    recipient: str
    top: str
    body: str
    terms: str


class Broadcast(NumberStep, name="message/broadcast"):
    topic: str
    top: str
    body: str
    terms: str
    live: int
    """1: also publish it to current listeners."""


class Register(TextStep, name="message/register"):
    recipient: str


class Subscribe(TruthStep, name="message/subscribe"):
    recipient: str
    topic: str
    on: int


class Forget(TruthStep, name="message/forget", flags=OOM):
    recipient: str
    silent_ms: int
    """Time for which it must have been silent; 0: any."""


class Resent(NamedTuple):
    word: str
    """`sent`, `unknown` or `none`."""
    what: str
    """The message's id, the recipient, or the id of the dead letter."""


class Resend(Step[Resent], name="message/resend"):
    dead_letter: str
    ttl_ms: int
    inbox_limit: int
    keep_ms: int

    def read(self, reply: Any) -> Resent:
        return Resent(*map(text, reply))


class TakenMessage(NamedTuple):
    facts: str
    """`<delivery> <failed deliveries> <sent at> <ticket> <head>`."""
    body: str


class TakeReply(NamedTuple):
    epoch: str
    offset: int
    trimmed: int
    recovered: bool
    missed: int
    due_ms: int
    """Time until something is due; -1: nothing."""
    messages: list[TakenMessage]
    lost: list[str]
    """Acknowledged tickets that the reader no longer had."""


class Take(Step[TakeReply], name="inbox/take", flags=OOM):
    recipient: str
    reader: str
    place: str
    """Host and pid of the reader."""
    limit: int
    idle_ms: int
    deliveries: int
    """Deliveries before a message is dead."""
    all_begun: int
    """1: all messages count as begun, else the first one."""
    epoch: str
    """With `offset` and `trimmed`, the reader's position; all empty without one."""
    offset: int | str
    trimmed: int | str
    done: Deliveries
    """Messages to acknowledge."""
    known: Collection[str]
    """Unless all count as begun: the other tickets that the reader has in flight."""

    def read(self, reply: Any) -> TakeReply:
        (epoch, offset, trimmed, recovered, missed, due_ms), rows, lost = checked(list, reply)
        messages = list(map(TakenMessage, rows[::2], rows[1::2]))
        return TakeReply(epoch, offset, trimmed, recovered == 1, missed, due_ms, messages, lost)


class Ack(TextsStep, name="inbox/ack", flags=OOM):
    """Returns the tickets that the reader no longer had."""

    recipient: str
    reader: str
    begun: str
    """Ticket that the reader has begun; empty without one."""
    messages: Deliveries


class Nack(TextsStep, name="inbox/nack", flags=OOM):
    """Returns the tickets that the reader no longer has in flight."""

    recipient: str
    reader: str
    why: str
    wait_ms: int
    deliveries: int
    ticket: str
    delivery: int


class Extend(TextsStep, name="inbox/extend", flags=OOM):
    """Returns the tickets that the reader no longer has."""

    recipient: str
    reader: str
    place: str
    idle_ms: int
    messages: Deliveries


class HandBack(NumberStep, name="inbox/hand_back", flags=OOM):
    recipient: str
    reader: str
    messages: Deliveries
    """Empty: all messages of the reader."""


class Settle(TextsStep, name="inbox/settle", flags=OOM):
    """Returns the tickets of messages that did not wait."""

    recipient: str
    tickets: Collection[str]


class DeliveryRecord(NamedTuple):
    number: int
    failed: int
    begun: bool
    reader: str


class ReadDelivery(Step[DeliveryRecord | None], name="inbox/delivery", flags=READS):
    recipient: str
    ticket: str

    def read(self, reply: Any) -> DeliveryRecord | None:
        if reply is None:
            return None
        number, failed, begun, reader = text(reply).split(" ", 3)
        return DeliveryRecord(int(number), int(failed), begun == "1", reader)


class PeekedMessage(NamedTuple):
    ticket: str
    at_ms: str
    head: str
    body: str
    failed: int
    reader: str
    """Empty for a waiting message."""


class Peek(Step[list[PeekedMessage] | None], name="inbox/peek"):
    """Returns None for an unknown recipient."""

    recipient: str
    limit: int
    payloads: int

    def read(self, reply: Any) -> list[PeekedMessage] | None:
        return None if reply is None else [PeekedMessage(*row) for row in reply]


class Tidied(NamedTuple):
    expired: int
    trimmed: int


class Tidy(Step[Tidied], name="inbox/tidy", flags=OOM):
    recipient: str
    deliveries: int
    keep_ms: int

    def read(self, reply: Any) -> Tidied:
        return Tidied(*reply)
