"""Messages between repositories, agents and people: sent, listed, acknowledged."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic_core import to_json

from coordination.declared import Column, Effect, Option, Table, operation
from coordination.errors import Conflict, NotFound, UsageError
from coordination.frozen import FrozenModel
from coordination.messages import DeadLetter, Event, Gap, InboxStats, Message, MessageBus
from coordination.text import counted, did_you_mean, listed, quoted

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess
    from coordination.messages.live import Subscription

__all__ = [
    "ALL",
    "NOTE",
    "Acknowledged",
    "Event",
    "Gap",
    "MessageView",
    "Messages",
    "Published",
    "Registered",
    "Sent",
    "Topics",
    "figures",
    "text_of",
]

NOTE = "note"
ALL = "all"
AT_ONCE = 1000
"""Limit of one step that takes messages out of an inbox."""


def text_of(payload: object) -> str:
    """Return a payload as people read it."""
    return payload if isinstance(payload, str) else to_json(payload).decode()


class MessageView(FrozenModel):
    """A message as people and programs read it."""

    shown: ClassVar = Table(
        columns=(
            Column("ID", of=lambda one: one.id.rpartition("/")[2]),  # enough for `message ack`
            Column("TO"),
            Column("FROM", of="sender"),
            Column("SENT", of=lambda one: datetime.fromisoformat(one.sent_at)),
            Column("TYPE"),
            Column("PRIORITY", of=lambda one: one.priority or ""),
            Column("DELIVERIES", of=lambda one: one.deliveries if one.deliveries > 1 else ""),
            Column("READER"),
            Column("WHY", flexible=True),
            Column("TEXT", of=lambda one: text_of(one.payload), flexible=True, folds=True),
        ),
        none="there is no message",
        next_step="send one: coord message send TO TEXT",
    )
    id: str
    to: str
    sender: str
    type: str
    payload: Any
    sent_at: str
    priority: int
    deliveries: int
    """Number of deliveries, the last one included."""
    reader: str | None = None
    """The reader that has it in flight."""
    reply_to: str | None = None
    died_at: str | None = None
    """Time of death of a dead letter."""
    why: str | None = None
    """Reason of death of a dead letter."""


class Acknowledged(FrozenModel):
    to: str
    acknowledged: tuple[str, ...]
    """Ids of the messages."""
    trimmed: int
    """Messages that were lost unread: the inbox was full, or they were kept too long."""


class Sent(FrozenModel):
    id: str
    to: str


class Registered(FrozenModel):
    to: str


class Published(FrozenModel):
    topic: str
    reached: int
    """Number of programs and inboxes that it reached."""


TO_TEXT = "A repository, or KIND:NAME, as in agent:claude or person:ann."
To = Annotated[str, Option(TO_TEXT, completes="repo_names")]
OfOne = Annotated[str | None, Option(f"{TO_TEXT[:-1]} (default: all recipients).", completes="repo_names")]
Limit = Annotated[int, Option("List at most this many messages.", least=1, most=1000)]


class Messages:
    """Messages as people use them: `coord.message`. A recipient is a repository, or `kind:name`, as in
    `agent:claude`. Each method raises NotFound for a repository that the file does not declare.
    """

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    @operation("message.send", Effect.ADDS, right="edit")
    def send(
        self,
        to: To,
        text: Annotated[str, Option("The text.", stdin=True)],
        *,
        type: Annotated[str, Option("Set the type of the message: one word (default: note).")] = NOTE,
        ttl: Annotated[
            timedelta | None,
            Option("Do not deliver it after so long (default: `inbox_keep`, 24h).", metavar="DURATION"),
        ] = None,
        priority: Annotated[int, Option("Deliver higher priorities first.", least=-100, most=100)] = 0,
        reply_to: Annotated[
            str | None,
            Option(
                "Send answers to this recipient: a repository, or KIND:NAME.",
                metavar="TO",
                completes="repo_names",
            ),
        ] = None,
    ) -> Sent:
        """Send a message to a repository, an agent or a person. It is kept until the recipient acknowledges
        it.

        Raises NotFound for a recipient other than a repository without an inbox; UsageError; NotAllowed.
        """
        whom, back = self.recipient(to), self.recipient(reply_to) if reply_to else None
        if not text.strip():
            raise UsageError("there is nothing to send", "pass a text, or - to read standard input")
        self._access.authority.check("message.send")
        with self._access.answering() as connection, _known(whom):
            bus = _registered(connection.messages, whom)
            id_ = bus.send(whom, type, text, ttl=ttl, priority=priority, reply_to=back)
        return Sent(id=id_, to=whom)

    @operation("message.list", Effect.READS)
    def list(self, to: OfOne = None, *, limit: Limit = 100) -> tuple[MessageView, ...]:
        """List the messages that wait for a repository, an agent or a person, or for all. Listing takes no
        message; one in flight is listed with its reader.

        Raises NotFound for a recipient without an inbox.
        """
        whom = self.recipient(to) if to else None
        with self._access.answering() as connection:
            bus = connection.messages
            if whom is not None:
                with _known(whom):
                    return tuple(map(_view, _registered(bus, whom).peek(whom, limit)))
            found: list[MessageView] = []
            for name in _lasting(bus):
                with suppress(NotFound):  # forgotten a moment ago
                    found += map(_view, bus.peek(name, limit))
            return tuple(found[:limit])

    @operation("message.register", Effect.ADDS, right="edit")
    def register(self, to: To) -> Registered:
        """Keep messages to a recipient from now on. Repositories of the file always have an inbox."""
        self._access.authority.check("message.register")
        whom = self.recipient(to)
        with self._access.answering() as connection:
            connection.messages.register(whom)
        return Registered(to=whom)

    @operation("message.dead", Effect.READS)
    def dead(self, to: OfOne = None, *, limit: Limit = 100) -> tuple[MessageView, ...]:
        """List the dead letters, newest first: messages given up after too many deliveries."""
        whom = self.recipient(to) if to else None
        with self._access.answering() as connection:
            return tuple(_view_of_dead(letter) for letter in connection.messages.dead(whom, limit))

    @operation("message.resend", Effect.ADDS, right="edit")
    def resend(
        self, id: Annotated[str, Option("The id of its message, or the end of it.")], to: OfOne = None
    ) -> Sent:
        """Send a dead letter again.

        Raises NotFound, NotAllowed.
        """
        self._access.authority.check("message.resend")
        whom = self.recipient(to) if to else None
        with self._access.answering() as connection:
            bus = connection.messages
            letters = {letter.message.id: letter for letter in bus.dead(whom, AT_ONCE)}
            letter = letters[_named(id, letters, "dead letter", "coord message dead")]
            return Sent(id=bus.resend(letter.id), to=letter.message.to)

    @operation("message.ack", Effect.CHANGES, right="edit")
    def ack(
        self,
        to: To,
        ids: Annotated[Sequence[str], Option("Ids of messages, the ends of ids, or `all`.", metavar="ID…")],
    ) -> Acknowledged:
        """Acknowledge messages: they are deleted from the inbox and not delivered again.

        Raises NotFound; Conflict where another reader has one in flight; NotAllowed: it needs the right to
        send messages, because it takes them from every other reader of the inbox.
        """
        self._access.authority.check("message.ack")
        whom = self.recipient(to)
        with self._access.answering() as connection:
            return _acknowledge(connection.messages, whom, ids)

    def recipient(self, to: str) -> str:
        """Return `kind:name` as it is; add the kind to the name of a repository. Raises NotFound."""
        if ":" in to:
            return to
        try:
            return f"repo:{self._access.manager.get_repo(to).name if self._access.has_file else to}"
        except NotFound as error:
            raise NotFound(
                error.message, f"{error.hint}; anybody else is KIND:NAME, as in person:{to}"
            ) from error


class Topics:
    """Topics as people use them: `coord.topic`."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    @operation("topic.publish", Effect.ADDS, right="edit")
    def publish(
        self,
        topic: Annotated[str, Option("Words separated by dots, such as vbia_events or build.api.")],
        payload: Annotated[Any, Option("JSON, or else text, up to 256 KiB.", stdin=True, json=True)],
        *,
        type: Annotated[str, Option("Set the type of the event: one word (default: event).")] = "event",
    ) -> Published:
        """Publish an event on a topic. It goes to the current subscribers, and is not kept for later ones;
        messages are.

        Raises UsageError, NotAllowed.
        """
        self._access.authority.check("topic.publish")
        with self._access.answering() as connection:
            reached = connection.messages.publish(topic, payload, type=type)
        return Published(topic=topic, reached=reached)

    @contextmanager
    def subscribe(self, *topics: str) -> Iterator[Subscription]:
        """Receive the events of topics, from now on. Events that were published before, or while Redis was
        away, are missed.

        `topics`: names such as `vbia_events`, or patterns such as `a.*`. Yield them for the block.
        """
        with self._access.answering() as connection, connection.messages.listen(*topics) as listening:
            yield listening


def _acknowledge(bus: MessageBus, to: str, names: Collection[str]) -> Acknowledged:
    with _known(to):
        found = {message.id: message for message in _registered(bus, to).peek(to, AT_ONCE, payloads=False)}
    where = f"coord message list {quoted(to)}"
    wanted = (
        set(found) if ALL in names else {_named(name, found, f"message to {to}", where) for name in names}
    )
    rest = bus.settle(*(found[id_] for id_ in found if id_ in wanted))
    done = tuple(id_ for id_ in found if id_ in wanted and found[id_] not in rest)
    trimmed = _count_trimmed(bus, to)
    _refuse_the_rest(rest, done)
    return Acknowledged(to=to, acknowledged=done, trimmed=trimmed)


def _count_trimmed(bus: MessageBus, to: str) -> int:
    """Return the number of lost messages that no reader was notified of, and mark them as reported."""
    reader = f"post:{secrets.token_hex(4)}"
    looked = bus.take(to, reader, 0)
    bus.take(to, reader, 0, since=looked.position)
    return looked.trimmed


def _refuse_the_rest(left: Sequence[Message], done: Sequence[str]) -> None:
    if not left:
        return
    readers = listed(sorted({message.reader for message in left if message.reader})) or "another reader"
    ids = listed([message.id for message in left])
    so_far = f"; {counted(len(done), 'message')} acknowledged" if done else ""
    raise Conflict(
        f"{ids} cannot be acknowledged: in flight to {readers}{so_far}", "wait until the reader is done"
    )


def figures(bus: MessageBus) -> Mapping[str, int]:
    """Return counts over all inboxes."""
    inboxes: list[InboxStats] = []
    for name in _lasting(bus):
        with suppress(NotFound):
            inboxes.append(bus.standing(name))
    counts = ("waiting", "in_hand", "trimmed", "expired", "dead")
    return {
        "recipients": len(inboxes),
        **{name: sum(getattr(inbox, name) for inbox in inboxes) for name in counts},
    }


def _lasting(bus: MessageBus) -> Iterator[str]:
    """Yield the recipients, without those of a single reply."""
    return (name for name in bus.recipients() if not name.startswith("reply:"))


def _registered(bus: MessageBus, to: str) -> MessageBus:
    """Give the recipient an inbox if it is a repository; return the bus."""
    if to.startswith("repo:"):
        bus.register(to)
    return bus


@contextmanager
def _known(to: str) -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise NotFound(error.message, f"{error.hint}: coord message register {quoted(to)}") from error


def _named(name: str, ids: Iterable[str], what: str, where: str) -> str:
    if not name:
        raise UsageError(f"which {what}? its id is empty", "see: coord message list")
    known = list(ids)
    ending = [id_ for id_ in known if id_.endswith(name)]
    if name in known or len(ending) == 1:
        return name if name in known else ending[0]
    if ending:
        raise UsageError(f"{name!r} is the end of {len(ending)} ids", "give more of it")
    raise NotFound(f"there is no {what} with id {name!r}{did_you_mean(name, known)}", f"see: {where}")


def _view(message: Message) -> MessageView:
    return MessageView(**_facts(message), reader=message.reader or None)


def _view_of_dead(letter: DeadLetter) -> MessageView:
    return MessageView(**_facts(letter.message), died_at=letter.died_at.isoformat(), why=letter.why)


def _facts(message: Message) -> Mapping[str, Any]:
    names = ("id", "to", "sender", "type", "payload", "priority", "deliveries", "reply_to")
    return {**{name: getattr(message, name) for name in names}, "sent_at": message.sent_at.isoformat()}
