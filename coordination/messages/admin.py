"""Inspection and maintenance of inboxes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from coordination.backend.client import reaching
from coordination.durations import MS
from coordination.errors import NotFound
from coordination.messages import names, records
from coordination.messages.records import (
    DeadLetter,
    InboxStats,
    Limits,
    Message,
    MessagesSwept,
    Presence,
    moment,
    text,
)
from coordination.messages.steps import Steps
from coordination.text import did_you_mean

READ_AT_ONCE = 100
DEAD_ID = re.compile(r"\d{1,18}-\d{1,18}")
GONE_KINDS = ("reply:", "worker:")
"""Prefixes of recipients that belong to one process; a new process has a new name."""


def recipients(steps: Steps) -> tuple[str, ...]:
    with reaching(steps.url):
        return tuple(sorted(map(text, steps.redis.zrange(steps.keys.recipients, 0, -1))))


def unknown(steps: Steps, recipient: str) -> NotFound:
    near = did_you_mean(recipient, recipients(steps))
    return NotFound(
        f"there is no recipient {recipient}{near}",
        "a recipient exists once it was registered or has received",
    )


def peek(steps: Steps, recipient: str, limit: int, payloads: bool) -> tuple[Message, ...]:
    rows = steps("inbox/peek", recipient, limit, int(payloads))
    if rows is None:
        raise unknown(steps, recipient)
    return tuple(
        sorted((_inspected(recipient, *map(text, row)) for row in rows), key=lambda message: message.offset)
    )


def _inspected(
    recipient: str, ticket: str, at_ms: str, head: str, body: str, failed: str, reader: str
) -> Message:
    return records.message(recipient, ticket, at_ms, head, body, deliveries=int(failed) + 1, reader=reader)


def settle(steps: Steps, messages: Sequence[Message]) -> tuple[Message, ...]:
    if not messages:
        return ()
    tickets = [message.ticket for message in messages]
    return records.with_tickets(messages, steps("inbox/settle", messages[0].to, *tickets))


def stats(steps: Steps, recipient: str) -> InboxStats:
    keys = steps.keys
    with reaching(steps.url), steps.redis.pipeline(transaction=True) as pipe:
        pipe.zscore(keys.recipients, recipient)
        pipe.zcard(keys.ready(recipient))
        pipe.zcard(keys.pending(recipient))
        pipe.hmget(keys.facts(recipient), ["trimmed", "expired", "dead"])
        known, waiting, in_hand, counts = pipe.execute()
    if known is None:
        raise unknown(steps, recipient)
    trimmed, expired, dead = (int(count or 0) for count in counts)
    return InboxStats(
        recipient=recipient, waiting=waiting, in_hand=in_hand, trimmed=trimmed, expired=expired, dead=dead
    )


def presence(steps: Steps, gone: timedelta) -> tuple[Presence, ...]:
    with reaching(steps.url), steps.redis.pipeline(transaction=True) as pipe:
        pipe.time()
        pipe.zrevrange(steps.keys.readers, 0, -1, withscores=True)
        (seconds, micros), rows = pipe.execute()
    now_ms = int(seconds) * 1000 + int(micros) // 1000
    return tuple(_reader(text(who), int(at_ms), now_ms) for who, at_ms in rows if now_ms - at_ms < gone / MS)


def _reader(who: str, at_ms: int, now_ms: int) -> Presence:
    recipient, reader, host, pid = who.split(" ")
    age = timedelta(milliseconds=max(0, now_ms - at_ms))
    return Presence(recipient=recipient, reader=reader, host=host, pid=int(pid), seen=moment(at_ms), age=age)


def dead(steps: Steps, recipient: str | None, limit: int) -> tuple[DeadLetter, ...]:
    found: list[DeadLetter] = []
    last = "+"
    while len(found) < limit and (rows := _older(steps, last)):
        found_letters = (_dead_letter(dead_id, values) for dead_id, values in rows)
        found += [letter for letter in found_letters if letter and recipient in (None, letter.message.to)]
        last = f"({text(rows[-1][0])}"
    return tuple(found[:limit])


def _dead_letter(dead_id: Any, values: Any) -> DeadLetter | None:
    """Return the dead letter; None for a foreign entry, because other programs can write to Redis, too."""
    try:
        return records.dead_letter(dead_id, values)
    except (KeyError, ValueError, OverflowError, RecursionError):
        return None


def _older(steps: Steps, last: str) -> list[Any]:
    with reaching(steps.url):
        rows: list[Any] = steps.redis.xrevrange(steps.keys.dead_letters, last, "-", count=READ_AT_ONCE)
    return rows


def resend(steps: Steps, dead_id: str, limits: Limits, ttl: timedelta | None) -> str:
    ttl_ms = 0 if ttl is None else names.milliseconds(ttl, "ttl")
    word, what = "none", dead_id
    if DEAD_ID.fullmatch(dead_id):
        word, what = map(
            text, steps("message/resend", dead_id, ttl_ms, limits.inbox_limit, limits.inbox_keep // MS)
        )
    if word == "sent":
        return what
    if word == "unknown":
        raise NotFound(f"the recipient {what} no longer exists", "register it, then send again")
    raise NotFound(f"there is no dead letter {dead_id[:80]!r}", "list them: coord list-messages --dead")


def sweep(steps: Steps, limits: Limits) -> MessagesSwept:
    expired = trimmed = 0
    forgotten: list[str] = []
    for recipient in recipients(steps):
        if recipient.startswith(GONE_KINDS) and steps("message/forget", recipient, limits.gone // MS):
            forgotten.append(recipient)
            continue
        counts = steps("inbox/tidy", recipient, limits.deliveries, limits.inbox_keep // MS)
        expired, trimmed = expired + counts[0], trimmed + counts[1]
    with reaching(steps.url):
        seconds, _ = steps.redis.time()
        steps.redis.zremrangebyscore(steps.keys.readers, "-inf", seconds * 1000 - limits.gone // MS)
    return MessagesSwept(expired=expired, trimmed=trimmed, forgotten=tuple(forgotten))
