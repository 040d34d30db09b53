"""Operations of readers: take, acknowledge, refuse, extend and return messages, each in one Lua step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from coordination.messages import names, records
from coordination.messages.names import MS
from coordination.messages.records import Limits, Message, Position, Taken
from coordination.messages.sending import process
from coordination.messages.steps import Steps, deliveries


def take(
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
    position = (since.epoch, since.offset, since.trimmed) if since else ("", "", "")
    words = (limit, limits.idle // MS, limits.deliveries, int(all_begun))
    in_hand = (len(done), *deliveries(*done), *[message.ticket for message in known])
    answer = steps("inbox/take", to, reader, _host_and_pid(), *words, *position, *in_hand)
    return records.taken(answer, to, reader, done)


def ack(steps: Steps, messages: Sequence[Message], begun: Message | None) -> tuple[Message, ...]:
    of = (*messages, begun)[0]
    if of is None:
        return ()
    ticket = begun.ticket if begun else ""
    return records.with_tickets(messages, steps("inbox/ack", of.to, of.reader, ticket, *deliveries(*messages)))


def nack(steps: Steps, limits: Limits, message: Message, why: str) -> tuple[int, ...]:
    words = (names.utf8(why[:1000]), limits.retry // MS, limits.deliveries)
    answer = steps("inbox/nack", message.to, message.reader, *words, *deliveries(message))
    return tuple(int(records.text(ticket).partition(" ")[0]) for ticket in answer)


def extend(steps: Steps, limits: Limits, messages: Sequence[Message]) -> tuple[Message, ...]:
    if not messages:
        return ()
    to, reader = messages[0].to, messages[0].reader
    lost = steps("inbox/extend", to, reader, _host_and_pid(), limits.idle // MS, *deliveries(*messages))
    return records.with_tickets(messages, lost)


def hand_back(steps: Steps, messages: Sequence[Message]) -> None:
    if messages:
        steps("inbox/hand_back", messages[0].to, messages[0].reader, *deliveries(*messages))


def hand_back_all(steps: Steps, to: str, reader: str) -> int:
    return int(steps("inbox/hand_back", names.recipient(to), names.name(reader, "a reader")))


def _host_and_pid() -> str:
    """Return `host pid`."""
    return process().replace(":", " ")
