"""How a bus numbers and writes what it sends: the order of its numbers is the order in which they arrive."""

from __future__ import annotations

import json
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
    top: dict[str, Any]
    body: str
    rest: tuple[int, ...]

    def numbered(self, sequence: str) -> list[str | int]:
        """As message.letter in wire/lua/message/_message.lua takes it."""
        return [
            self.sender,
            sequence,
            json.dumps({"id": f"{self.sender}/{sequence}", **self.top}),
            self.body,
            *self.rest,
        ]


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
        top: dict[str, Any] = {"type": names.name(kind, "a type of message")}
        if reply_to is not None:
            top["reply_to"] = names.recipient(reply_to)
        if not ack:
            top["ack"] = False
        ttl_ms = 0 if ttl is None else names.milliseconds(ttl, "ttl")
        rest = (ttl_ms, names.priority(priority), self._limit, self._keep_ms, int(not ack))
        return Letter(self.name, top, names.encode(payload), rest)

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
