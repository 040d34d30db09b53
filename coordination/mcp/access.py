"""Who may come in over HTTP, and where: one token, one address."""

from __future__ import annotations

import hmac
import secrets

from fastmcp.server.auth import AccessToken, TokenVerifier

from coordination.api import Address

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


def url_of(at: Address) -> str:
    return f"http://{at}{PATH}"
