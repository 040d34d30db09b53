"""Clients that connect, say half a request, and wait."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

HALF = b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Le"


@contextmanager
def half_open(port: int, count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as ends:
        lines = [ends.enter_context(socket.create_connection(("127.0.0.1", port), 10)) for _ in range(count)]
        for line in lines:
            with suppress(OSError):  # it was let go at once
                line.send(HALF)
        yield lines


def closed(lines: Sequence[socket.socket], within_s: float) -> bool:
    """Return whether the other side ends all of them within that time."""
    deadline, left = time.monotonic() + within_s, set(lines)
    while left and time.monotonic() < deadline:
        for line in select.select(list(left), [], [], 1)[0]:
            try:
                over = line.recv(4096) == b""
            except OSError:
                over = True
            left -= {line} if over else set()
    return not left
