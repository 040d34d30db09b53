"""Where a server of ours listens, and whether others can come in there."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

from coordination.errors import CoordinationError

VANISHED_S = 60
"""A peer that acknowledged nothing for so long is gone: its machine was switched off, or a firewall forgot the connection."""


@dataclass(frozen=True, kw_only=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        """As it stands in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def open_to_others(self) -> bool:
        """Whether other machines can come in; what travels there can be read on the way."""
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"


def listen(at: Address) -> socket.socket:
    """An open socket there. Raises CoordinationError."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(at.host, at.port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _let_go_of_vanished_peers(listening)
        listening.bind(place)
        listening.listen()  # who comes before we are up waits for a moment
    except OSError as error:
        raise CoordinationError(
            f"cannot listen at {at.host}:{at.port}: {error.strerror or error}",
            "name another address or port",
        ) from error
    return listening


def _let_go_of_vanished_peers(listening: socket.socket) -> None:
    """Accepted connections inherit this."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    seconds = {"TCP_KEEPIDLE": VANISHED_S, "TCP_KEEPINTVL": VANISHED_S // 4}
    for name, value in {**seconds, "TCP_USER_TIMEOUT": 2 * VANISHED_S * 1000}.items():
        if hasattr(socket, name):  # not every system has all of them
            listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
