"""Messages between repositories, agents and people: sent, listed, acknowledged."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from coordination.errors import Conflict, NotFound, UsageError
from coordination.frozen import FrozenModel
from coordination.messages import DeadLetter, Event, Gap, InboxStats, Message, MessageBus
from coordination.text import counted, did_you_mean, listed, quoted

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess
    from coordination.messages.live import Subscription

__all__ = ["ALL", "NOTE", "Acknowledged", "Event", "Gap", "Inbox", "MessageView", "Sent", "figures"]

NOTE = "note"
ALL = "all"
AT_ONCE = 1000
"""Limit of one step that takes messages out of an inbox."""


class MessageView(FrozenModel):
    """A message as people and programs read it."""

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
    acknowledged: tuple[str, ...]
    """Ids of the messages."""
    trimmed: int
    """Messages that were lost unread: the inbox was full, or they were kept too long."""


class Sent(FrozenModel):
    id: str
    to: str


class Inbox:
    """Messages and topics as people use them: `coord.inbox`. A recipient is a repository, or `kind:name`, as
    in `agent:claude`. Each method raises NotFound for a repository that the file does not declare.
    """

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    def send(
        self,
        to: str,
        text: str,
        type: str = NOTE,
        *,
        ttl: timedelta | None = None,
        priority: int = 0,
        reply_to: str | None = None,
    ) -> Sent:
        """Send a message to a repository, an agent or a person. It is kept until the recipient acknowledges
        it.

        Raises NotFound for a recipient other than a repository without an inbox; UsageError; NotAllowed.
        """
        whom, back = self.recipient(to), self.recipient(reply_to) if reply_to else None
        if not text.strip():
            raise UsageError("there is nothing to send", "pass a text, or - to read standard input")
        self._access.authority.check("send_message")
        with self._access.answering() as connection, _known(whom):
            bus = _registered(connection.messages, whom)
            id_ = bus.send(whom, type, text, ttl=ttl, priority=priority, reply_to=back)
        return Sent(id=id_, to=whom)

    def waiting(self, to: str | None, limit: int, *, register: bool = False) -> tuple[MessageView, ...]:
        """List the messages that wait for a repository, an agent or a person, or for all. Listing takes no
        message; one in flight is listed with its reader.

        `register`: keep messages to `to` from now on.

        Raises NotFound for a recipient without an inbox.
        """
        whom = self.recipient(to) if to else None
        with self._access.answering() as connection:
            bus = connection.messages
            if whom is not None:
                with _known(whom):
                    return tuple(map(_view, _registered(bus, whom, always=register).peek(whom, limit)))
            found: list[MessageView] = []
            for name in _lasting(bus):
                with suppress(NotFound):  # forgotten a moment ago
                    found += map(_view, bus.peek(name, limit))
            return tuple(found[:limit])

    def dead(self, to: str | None, limit: int) -> tuple[MessageView, ...]:
        """Return the dead letters, newest first."""
        whom = self.recipient(to) if to else None
        with self._access.answering() as connection:
            return tuple(_view_of_dead(letter) for letter in connection.messages.dead(whom, limit))

    def resend(self, to: str | None, name: str) -> Sent:
        """Send a dead letter again. `name`: the id of its message, or the end of it.

        Raises NotFound, NotAllowed.
        """
        self._access.authority.check("send_message")
        whom = self.recipient(to) if to else None
        with self._access.answering() as connection:
            bus = connection.messages
            letters = {letter.message.id: letter for letter in bus.dead(whom, AT_ONCE)}
            letter = letters[_named(name, letters, "dead letter", "coord list-messages --dead")]
            return Sent(id=bus.resend(letter.id), to=letter.message.to)

    def acknowledge(self, to: str, names: Collection[str]) -> Acknowledged:
        """Acknowledge messages: they are deleted from the inbox and not delivered again.

        `names`: `all`, ids, or the ends of ids.

        Raises NotFound; Conflict where another reader has one in flight; NotAllowed: it needs the right to
        send messages, because it takes them from every other reader of the inbox.
        """
        self._access.authority.check("send_message")
        whom = self.recipient(to)
        with self._access.answering() as connection:
            return _acknowledge(connection.messages, whom, names)

    def publish(self, topic: str, payload: Any, type: str) -> int:
        """Publish an event on a topic, to its current subscribers. It is not kept for later ones; messages
        are.

        Return the number of programs and inboxes that it reached.

        Raises UsageError, NotAllowed.
        """
        self._access.authority.check("publish")
        with self._access.answering() as connection:
            return connection.messages.publish(topic, payload, type=type)

    @contextmanager
    def listen(self, *topics: str) -> Iterator[Subscription]:
        """Receive the events of topics, from now on. Events that were published before, or while Redis was
        away, are missed.

        `topics`: names such as `vbia_events`, or patterns such as `a.*`. Yield them for the block.
        """
        with self._access.answering() as connection, connection.messages.listen(*topics) as listening:
            yield listening

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


def _acknowledge(bus: MessageBus, to: str, names: Collection[str]) -> Acknowledged:
    with _known(to):
        found = {message.id: message for message in _registered(bus, to).peek(to, AT_ONCE, payloads=False)}
    where = f"coord list-messages {quoted(to)}"
    wanted = (
        set(found) if ALL in names else {_named(name, found, f"message to {to}", where) for name in names}
    )
    rest = bus.settle(*(found[id_] for id_ in found if id_ in wanted))
    done = tuple(id_ for id_ in found if id_ in wanted and found[id_] not in rest)
    trimmed = _count_trimmed(bus, to)
    _refuse_the_rest(rest, done)
    return Acknowledged(acknowledged=done, trimmed=trimmed)


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


def _registered(bus: MessageBus, to: str, *, always: bool = False) -> MessageBus:
    """Give the recipient an inbox if it is a repository, or `always`; return the bus."""
    if always or to.startswith("repo:"):
        bus.register(to)
    return bus


@contextmanager
def _known(to: str) -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise NotFound(error.message, f"{error.hint}: coord list-messages {quoted(to)} --register") from error


def _named(name: str, ids: Iterable[str], what: str, where: str) -> str:
    if not name:
        raise UsageError(f"which {what}? its id is empty", "see: coord list-messages")
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
