"""What the steps in wire/lua/message and wire/lua/inbox answer, as records. A client may decode responses or not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from coordination.messages.records import DeadLetter, Message, Position, Taken, moment


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def fields(values: Mapping[Any, Any] | Sequence[Any]) -> dict[str, str]:
    """A hash or a stream entry, as redis-py gives it."""
    return {text(name): text(value) for name, value in dict(values).items()}


def taken(answer: Sequence[Any], to: str, reader: str) -> Taken:
    (epoch, offset, trimmed, recovered, missed, due), rows = answer
    return Taken(
        messages=tuple(_delivered(to, reader, *rows[i : i + 3]) for i in range(0, len(rows), 3)),
        recovered=recovered == 1,
        trimmed=missed,
        position=Position(text(epoch), offset, trimmed),
        due=None if due < 0 else timedelta(milliseconds=due),
    )


def _delivered(to: str, reader: str, facts: Any, head: Any, body: Any) -> Message:
    delivery, in_vain, at_ms, ticket = text(facts).split(" ", 3)
    more = {"deliveries": int(in_vain) + 1, "reader": reader, "delivery": int(delivery)}
    return message(to, ticket, at_ms, head, body, **more)


def message(to: str, ticket: str, at_ms: str, head: Any, body: Any, **more: Any) -> Message:
    offset, priority, _, sender = ticket.split(" ", 3)
    top = json.loads(head)
    return Message(
        id=top["id"],
        to=to,
        type=top["type"],
        payload=json.loads(body),
        sender=sender,
        sent_at=moment(int(at_ms)),
        offset=int(offset),
        priority=int(priority),
        reply_to=top.get("reply_to"),
        wants_ack=top.get("ack", True),
        ticket=ticket,
        **more,
    )


def those(messages: Iterable[Message], tickets: Iterable[Any]) -> tuple[Message, ...]:
    named = set(map(text, tickets))
    return tuple(message for message in messages if message.ticket in named)


def dead_letter(dead_id: Any, values: Mapping[Any, Any]) -> DeadLetter:
    f = fields(values)
    return DeadLetter(
        id=text(dead_id),
        message=message(f["to"], f["ticket"], f["sent_at"], f["head"], f["body"], deliveries=int(f["deliveries"])),
        why=f["why"],
        died_at=moment(int(text(dead_id).partition("-")[0])),
    )
