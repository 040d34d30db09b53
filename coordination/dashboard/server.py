"""The process of the dashboard: it serves until a signal, and then ends its open streams at once."""

from __future__ import annotations

import signal
import socket
import ssl
from collections.abc import Collection
from types import FrameType

import uvicorn

from coordination.api import http_limits
from coordination.dashboard.app import Dashboard

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
GRACE_S = 2
"""Time for answers at the end; without a limit uvicorn waits for open streams for ever."""
REQUEST_S = 10.0
CONNECTIONS = 500


class _Server(uvicorn.Server):
    """Ends the streams of open pages as soon as it is told to stop, instead of after the grace time."""

    def __init__(self, config: uvicorn.Config, dashboard: Dashboard) -> None:
        super().__init__(config)
        self._dashboard = dashboard

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._dashboard.news.end_streams()


def serve(
    dashboard: Dashboard,
    listening: socket.socket,
    *,
    proxies: Collection[str] = (),
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serve until a signal. `proxies`: networks whose X-Forwarded headers count."""
    config = uvicorn.Config(
        dashboard.app(),
        http=http_limits(REQUEST_S, CONNECTIONS),
        ws="none",
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        log_config=None,
        access_log=False,
        ssl_context_factory=None if tls is None else lambda *_: tls,
    )
    server = _Server(config, dashboard)

    def stop(number: int, frame: FrameType | None) -> None:
        server.handle_exit(number, frame)

    # uvicorn restores these handlers and raises the signal again; they have nothing left to do then.
    for number in STOPS:
        signal.signal(number, stop)
    server.run(sockets=[listening])
