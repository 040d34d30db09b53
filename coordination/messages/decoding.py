"""What the steps in backend/lua/message and backend/lua/inbox answer, as records. A client may decode responses or not."""

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
    f = fields(values)
    return DeadLetter(
        id=text(dead_id),
        message=message(f["to"], f["ticket"], f["sent_at"], f["head"], f["body"], deliveries=int(f["deliveries"])),
        why=f["why"],
        died_at=moment(int(text(dead_id).partition("-")[0])),
    )
