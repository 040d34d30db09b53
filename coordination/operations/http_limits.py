"""Limits of time and number for the HTTP connections of coord's servers.

uvicorn itself waits for ever for a client that connects and sends no request. A plain installation lacks
uvicorn, so only servers import this module.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

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
