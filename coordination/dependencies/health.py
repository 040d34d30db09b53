"""An address that is asked whether what it belongs to is well: one HTTP GET, of which only the status is looked at.

Redirects are followed, unless a redirect is what is expected. The time is that of all of it together: a server that sends
its answer letter by letter is waited for no longer than one that is silent. Importing this imports httpx2.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from threading import Timer
from typing import Any

import httpx2

from coordination.dependencies.records import Verdict, satisfied, unknown, unsatisfied

OK = 200
REDIRECTS = range(300, 400)


@dataclass
class Deadline:
    """Hangs up when the time is over, whatever is going on then: httpx2 limits each wait, not all of them together."""

    over: bool = False
    _socket: socket.socket | None = None

    def follow(self, event: str, info: Mapping[str, Any]) -> None:
        """httpx2 calls this with what it does; a redirect makes a new connection, TLS a new socket."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")
            if self.over:
                self.hang_up()

    def hang_up(self) -> None:
        self.over = True
        if self._socket is not None:
            with suppress(OSError):  # the connection has ended
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # that of TLS disturbs who reads from it


@contextmanager
def within(timeout: timedelta) -> Iterator[Deadline]:
    deadline = Deadline()
    timer = Timer(timeout.total_seconds(), deadline.hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield deadline
    finally:
        timer.cancel()


def ask(address: str, expected_status: int | None, timeout: timedelta) -> Verdict:
    with within(timeout) as deadline:
        return _ask(address, expected_status or OK, timeout, deadline)


def _ask(address: str, wanted: int, timeout: timedelta, deadline: Deadline) -> Verdict:
    try:
        with (
            httpx2.Client(
                timeout=timeout.total_seconds(), follow_redirects=wanted not in REDIRECTS, verify=_trusted()
            ) as client,
            client.stream("GET", address, extensions={"trace": deadline.follow}) as answer,  # a body may be endless
        ):
            status = answer.status_code
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, UnicodeError) as error:  # the last: of a host's name
        return unknown(
            f"validation.health_check {_shown(address)} is no address: {error} It begins with http:// or https://"
        )
    except httpx2.RequestError as error:
        return unsatisfied(f"{_shown(address)} {_trouble(error, timeout, deadline.over)}")
    words = f"{_shown(address)} answered {status}"
    return satisfied(words) if status == wanted else unsatisfied(f"{words}, not {wanted}")


@cache
def _trusted() -> ssl.SSLContext:
    """Reading the certificates takes 190 ms, with which each client would begin."""
    return httpx2.create_ssl_context()


def _trouble(error: httpx2.RequestError, timeout: timedelta, over: bool) -> str:
    if isinstance(error, httpx2.ConnectTimeout):
        return f"could not be reached within {timeout.total_seconds():g} s"
    if over or isinstance(error, httpx2.TimeoutException):
        return f"did not answer within {timeout.total_seconds():g} s"
    causes = [error]
    while isinstance(cause := causes[-1].__cause__ or causes[-1].__context__, Exception):
        causes.append(cause)  # type: ignore[arg-type]
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return f"cannot be trusted, or speaks no TLS: {error}"
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return "refused the connection: nothing listens there"
    return f"gave no answer: {error or type(error).__name__}"


def _shown(address: str) -> str:
    """Without a user's password, and without the query, where tokens stand."""
    return re.sub(r"//[^/?#\s]*@", "//", address).partition("?")[0]
