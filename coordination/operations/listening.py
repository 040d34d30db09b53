"""Listening sockets of coord's servers, and limits of time and number for their HTTP connections.

uvicorn itself waits for ever for a client that connects and sends no request.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from coordination.errors import CoordinationError

VANISHED_S = 60
"""Time without acknowledgement after which a peer counts as gone: switched off, or behind a firewall that
dropped the connection.
"""


@dataclass(frozen=True, kw_only=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        """Return the address as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def open_to_others(self) -> bool:
        """Return whether other machines can connect; traffic to them is not encrypted."""
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"


def listen(at: Address) -> socket.socket:
    """Return a listening socket. Raises CoordinationError."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(at.host, at.port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _set_keepalive(listening)
        listening.bind(place)
        listening.listen()  # clients that connect before the server is up wait
    except OSError as error:
        raise CoordinationError(
            f"cannot listen at {at.host}:{at.port}: {error.strerror or error}",
            "name another address or port",
        ) from error
    return listening


def _set_keepalive(listening: socket.socket) -> None:
    """Set keep-alive options, which accepted connections inherit."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    seconds = {"TCP_KEEPIDLE": VANISHED_S, "TCP_KEEPINTVL": VANISHED_S // 4}
    for name, value in {**seconds, "TCP_USER_TIMEOUT": 2 * VANISHED_S * 1000}.items():
        if hasattr(socket, name):  # not every system has all of them
            listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


INCOMPLETE = ("IDLE", "SEND_BODY")
"""States of a client, as named by h11, in which its request is incomplete."""


class LimitedHttp(H11Protocol):
    """Closes connections whose request is incomplete after the time limit, and those beyond the maximal
    number.

    WebSockets are exempt; between two requests uvicorn's own limit (5 s) applies.
    """

    request_s: float
    most: int
    _too_late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
        else:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._wait()
        super().data_received(data)
        if self.conn.their_state.__name__ not in INCOMPLETE:
            self._stop_waiting()

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._stop_waiting()
        super().handle_websocket_upgrade(event)

    def _wait(self) -> None:
        if self._too_late is None:
            self._too_late = self.loop.call_later(self.request_s, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._too_late is not None:
            self._too_late.cancel()
            self._too_late = None


def http_limits(request_s: float, connections: int) -> type[H11Protocol]:
    """Return a protocol for uvicorn with these limits: seconds for a request with its body, and number of
    connections.
    """
    return type("OurHttp", (LimitedHttp,), {"request_s": request_s, "most": connections})
