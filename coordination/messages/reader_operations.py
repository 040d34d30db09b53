"""Operations of the readers of an inbox, each in one Lua step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from coordination.backend.steps.message import (
    Ack,
    Extend,
    HandBack,
    Nack,
    Take,
)
from coordination.durations import MS
from coordination.messages import names, records
from coordination.messages.records import (
    Limits,
    Message,
    Position,
    Taken,
)
from coordination.messages.sending import process
from coordination.messages.steps import Effects, Steps, ack_with, deliveries


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
