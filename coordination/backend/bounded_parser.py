"""Read the answers of a Redis server within limits of size and time.

The file of a stranger may name the server, and a command that only reads connects to it. So an answer that
does not end may neither fill the memory nor make the command wait for ever. hiredis parses while it receives:
the limits are counted where the socket is read.
"""

from __future__ import annotations

import socket
import time
from typing import Any

import redis
from redis.connection import DefaultParser

MOST_BYTES = 256 * 1024 * 1024
"""Limit of one answer. The largest is the record of a run with 50,000 todos: 50 MB."""
LONGEST_S = 120.0
"""Seconds from the first byte of an answer to its last one; 8 MiB over a slow network take 60."""


class _Received:
    """A socket that counts the bytes and the time of the present answer."""

    def __init__(self, behind: socket.socket) -> None:
        self._behind = behind
        self.begin()

    def begin(self) -> None:
        self._bytes, self._until = 0, 0.0

    def recv_into(self, *args: Any) -> int:
        received = self._behind.recv_into(*args)
        now = time.monotonic()
        self._until = self._until or now + LONGEST_S
        self._bytes += received
        if self._bytes > MOST_BYTES:
            raise redis.ConnectionError(f"its answer has more than {MOST_BYTES:,} bytes")
        if now > self._until:
            raise redis.TimeoutError(f"its answer did not end within {LONGEST_S:g} s")
        return received

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)


class BoundedParser(DefaultParser):  # type: ignore[misc]
    _sock: Any

    def on_connect(self, connection: Any, **given: Any) -> None:
        super().on_connect(connection, **given)
        self._sock = _Received(self._sock)

    def read_response(self, *args: Any, **given: Any) -> Any:
        if (received := self._sock) is not None:  # another thread may disconnect
            received.begin()
        return super().read_response(*args, **given)
