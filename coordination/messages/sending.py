"""How a bus numbers and writes what it sends: the order of its numbers is the order in which they arrive."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from threading import Lock
from typing import Any, TypeVar

from coordination.errors import UsageError
from coordination.messages import names
from coordination.messages.records import Limits

Answer = TypeVar("Answer")


def process() -> str:
    """`host:pid`"""
    return f"{host()}:{os.getpid()}"


def host() -> str:
    return "".join(socket.gethostname().split())


@dataclass(frozen=True)
class Letter:
    """A message that has no number yet: what of it does not depend on that."""

    sender: str
    top: str
    body: str
    terms: str

    def numbered(self, sequence: str) -> tuple[str, str, str]:
        """As message.read in wire/lua/message/_message.lua takes it."""
        return f"{self.sender}/{sequence} {self.top}", self.body, self.terms


class Sender:
    """Numbers messages `<mark>.<n>`; the mark is new in every process, so that a name may be used again after a restart."""

    def __init__(self, name: str | None, limits: Limits) -> None:
        self.name = process() if name is None else names.name(name, "a sender")
        self._limit = limits.inbox_limit
        self._keep_ms = names.milliseconds(limits.inbox_keep, "inbox_keep")
        self._lock = Lock()
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._mark = secrets.token_hex(4)
        self._numbers = count(1)

    def letter(
        self, kind: str, payload: Any, *, ttl: timedelta | None, priority: int, reply_to: str | None, ack: bool
    ) -> Letter:
        """Raises UsageError for what cannot be sent."""
        to_whom = "-" if reply_to is None else names.recipient(reply_to)
        top = f"{names.name(kind, 'a type of message')} {to_whom} {int(ack)}"
        ttl_ms = 0 if ttl is None else names.milliseconds(ttl, "ttl")
        terms = f"{ttl_ms} {names.priority(priority)} {self._limit} {self._keep_ms}"
        return Letter(self.name, top, names.encode(payload), terms)

    def send(self, sequence: int | None, deliver: Callable[[str], Answer]) -> tuple[str, Answer]:
        """The id of what is sent, and what `deliver` answers. One at a time: a later number never overtakes."""
        if sequence is not None:
            if sequence < 0:
                raise UsageError(f"sequence {sequence} is negative", "count from 0")
            return f"{self.name}/{sequence}", deliver(str(sequence))
        with self._lock:
            if self._pid != os.getpid():  # a fork would number on from where its parent was
                self._begin()
            number = f"{self._mark}.{next(self._numbers)}"
            return f"{self.name}/{number}", deliver(number)
