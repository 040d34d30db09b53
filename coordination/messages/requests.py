"""Requests and replies: the requester has an inbox of its own while it waits."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from coordination.errors import NoReply, Unreachable, UsageError
from coordination.messages.names import milliseconds
from coordination.messages.records import Message

if TYPE_CHECKING:
    from coordination.messages.bus import MessageBus

REPLY = "reply"


def request(bus: MessageBus, to: str, kind: str, payload: Any, timeout: timedelta, priority: int) -> Any:
    milliseconds(timeout, "timeout")
    deadline = time.monotonic() + timeout.total_seconds()
    bus = bus.until(deadline)
    with _own_inbox(bus) as here, bus.receive(here, patience=timeout) as inbox:
        bus.send(to, kind, payload, ttl=timeout, priority=priority, reply_to=here)
        answer = inbox.next(timedelta(seconds=max(0.0, deadline - time.monotonic())))
        if answer is None:
            raise NoReply(
                f"{to} did not reply to {kind!r} within {timeout.total_seconds():g} s",
                "check that a program reads this recipient's inbox",
            )
        return answer.payload  # not acknowledged: the inbox is deleted with it


@contextmanager
def _own_inbox(bus: MessageBus) -> Iterator[str]:
    here = f"reply:{uuid.uuid4().hex}"
    bus.register(here)
    try:
        yield here
    finally:
        with suppress(Unreachable):  # a sweep deletes it; the earlier error is more useful
            bus.forget(here)


def reply(bus: MessageBus, message: Message, payload: Any) -> str:
    if message.reply_to is None:
        raise UsageError(f"message {message.id} of type {message.type!r} wants no reply", "send one instead")
    return bus.send(message.reply_to, REPLY, payload)
