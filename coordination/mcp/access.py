"""Who may come in over HTTP, and where: one token, one address."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from dataclasses import dataclass

from fastmcp.server.auth import AccessToken, TokenVerifier

from coordination.errors import CoordinationError

PATH = "/mcp"


class OneToken(TokenVerifier):
    """Whoever has it may do everything."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self._token = token.encode()

    async def verify_token(self, token: str) -> AccessToken | None:
        right = hmac.compare_digest(token.encode(), self._token)  # takes as long wherever they differ
        return AccessToken(token=token, client_id="coord", scopes=[]) if right else None


def new_token() -> str:
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, kw_only=True)
class Address:
    host: str
    port: int

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}{PATH}"

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
