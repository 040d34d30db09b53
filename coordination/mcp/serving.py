"""A server from its start to its end: closed standard input, Ctrl-C or SIGTERM. Nothing of ours is left then but what a run
that goes on needs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from types import FrameType

from coordination.mcp.access import PATH, OneToken
from coordination.mcp.server import build
from coordination.mcp.session import Session
from coordination.operations.http_limits import http_limits

REQUEST_S = 10.0
"""Until a request is whole, headers and body; an answer may take as long as it does."""
CONNECTIONS = 100
"""At once; an agent has one or two."""
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def over_stdio(office: Session) -> None:
    """Until the client closes our standard input. While we serve, what anybody prints goes to standard error."""
    with _closed_at_the_end(office):
        try:
            build(office).run("stdio", show_banner=False)
        except* BrokenPipeError:  # the client was killed
            pass


def over_http(office: Session, listening: socket.socket, token: str) -> None:
    """Until we are stopped; requests under way get two seconds."""
    limited = {"http": http_limits(REQUEST_S, CONNECTIONS), "log_config": None, "access_log": False}
    with _closed_at_the_end(office):
        build(office, OneToken(token)).run(
            "http",
            show_banner=False,
            path=PATH,
            sockets=[listening],
            host_origin_protection="auto",
            uvicorn_config=limited,
        )


@contextlib.contextmanager
def _closed_at_the_end(office: Session) -> Iterator[None]:
    """A signal ends the process here and now: the thread that waits for standard input can be woken by nobody else.

    Clients hang up and send SIGTERM soon after: what is being closed then is closed to its end.
    """
    closing = False

    def leave(_number: int, _frame: FrameType | None) -> None:
        for number in STOPS:
            signal.signal(number, signal.SIG_DFL)  # the next one leaves at once
        if not closing:
            office.close()
            os._exit(0)

    for number in STOPS:
        signal.signal(number, leave)
    try:
        yield
    finally:
        closing = True
        office.close()
