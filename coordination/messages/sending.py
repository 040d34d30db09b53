"""Numbering and encoding of outgoing messages: they arrive in the order of their numbers."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from threading import Lock
from types import EllipsisType
from typing import Any, TypeVar

from coordination.backend.address import hide_password
from coordination.backend.error_messages import ANOTHER
from coordination.backend.steps.message import Broadcast, Send
from coordination.errors import Unreachable
from coordination.messages import names
from coordination.messages.records import Limits
from coordination.messages.steps import Steps

Answer = TypeVar("Answer")


def process() -> str:
    """Return `host:pid`."""
    return f"{host()}:{os.getpid()}"


def host() -> str:
    return "".join(socket.gethostname().split())


@dataclass(frozen=True)
class OutgoingMessage:
    """A message without its number."""

    sender: str
    top: str
    body: str
    terms: str

    def to(self, recipient: str, number: str) -> Send:
        """Return the step that sends the message under a number."""
        return Send(recipient=recipient, top=self._top(number), body=self.body, terms=self.terms)

    def to_subscribers(self, topic: str, number: str, *, live: bool) -> Broadcast:
        """Return the step that sends it to all subscribers; with `live` also to current listeners."""
        return Broadcast(topic=topic, top=self._top(number), body=self.body, terms=self.terms, live=int(live))

    def _top(self, number: str) -> str:
        return f"{self.sender}/{number} {self.top}"


class Sender:
    """Numbers messages `<mark>.<n>`. The mark is new in every process, so that a name can be reused after a
    restart.
    """

    def __init__(self, name: str | None, limits: Limits) -> None:
        self.name = process() if name is None else names.name(name, "a sender")
        self._ttl = limits.ttl
        self._limit = limits.inbox_limit
        self._keep_ms = names.milliseconds(limits.inbox_keep, "inbox_keep")
        self._begin()

    def _begin(self) -> None:
        self._lock = Lock()  # new, because a forked child may inherit one that is locked for ever
        self._mark = secrets.token_hex(4)
        self._numbers = count(1)
        self._pid = os.getpid()

    def outgoing(
        self,
        type: str,
        payload: Any,
        *,
        ttl: timedelta | EllipsisType | None,
        priority: int,
        reply_to: str | None,
        ack: bool,
    ) -> OutgoingMessage:
        """Return a validated message. Raises UsageError."""
        lasting = self._ttl if isinstance(ttl, EllipsisType) else ttl
        to_whom = "-" if reply_to is None else names.recipient(reply_to)
        top = f"{names.name(type, 'a type of message')} {to_whom} {int(ack)}"
        ttl_ms = 0 if lasting is None else names.milliseconds(lasting, "ttl")
        terms = f"{ttl_ms} {names.priority(priority)} {self._limit} {self._keep_ms}"
        return OutgoingMessage(self.name, top, names.encode(payload), terms)

    def send(
        self, sequence: int | None, steps: Steps, deliver: Callable[[Steps, str], Answer]
    ) -> tuple[str, Answer]:
        """Return the message's id and the answer of `deliver`. Sends are serialised, so that numbers arrive
        in order.
        """
        if sequence is not None:
            return f"{self.name}/{names.sequence(sequence)}", deliver(steps, str(sequence))
        if self._pid != os.getpid():  # a forked child must not continue its parent's numbers
            self._begin()
        lock = self._lock
        steps = _acquire_in_order(lock, steps)
        try:
            number = f"{self._mark}.{next(self._numbers)}"
            return f"{self.name}/{number}", deliver(steps, number)
        finally:
            lock.release()


def _acquire_in_order(lock: Lock, steps: Steps) -> Steps:
    """Acquire the lock; return the steps with the remaining patience. Raises Unreachable."""
    if lock.acquire(blocking=False):
        return steps
    deadline = time.monotonic() + steps.patience_s
    if not lock.acquire(timeout=steps.patience_s):
        raise Unreachable(
            f"Redis at {hide_password(steps.url)} does not answer: "
            "other threads of this process are waiting for it",
            ANOTHER,
        )
    return steps.until(deadline)
