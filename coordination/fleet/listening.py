"""Where a server of ours listens, and whether others can come in there."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

from coordination.errors import CoordinationError


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
        listening.bind(place)
        listening.listen()  # who comes before we are up waits for a moment
    except OSError as error:
        raise CoordinationError(
            f"cannot listen at {at.host}:{at.port}: {error.strerror or error}",
            "name another address or port",
        ) from error
    return listening
