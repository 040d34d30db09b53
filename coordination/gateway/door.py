"""A connection before it speaks WebSocket. uvicorn waits for ever for whoever connects and does not say what it wants."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def door(within_s: float) -> type[H11Protocol]:
    """Who has not become a WebSocket by then is let go: those who say nothing, or a letter now and then, keep no place."""

    class Door(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._closing = self.loop.call_later(within_s, self._too_late)

        def connection_lost(self, exc: Exception | None) -> None:
            self._closing.cancel()
            super().connection_lost(exc)

        def handle_websocket_upgrade(self, event: Any) -> None:
            self._closing.cancel()
            super().handle_websocket_upgrade(event)

        def _too_late(self) -> None:
            self.transport.abort()

    return Door
