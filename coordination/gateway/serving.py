"""A gateway from its start to its end: TERM, Ctrl-C. Clients are told to come again elsewhere, and have two seconds for it."""

from __future__ import annotations

import signal
import socket
from types import FrameType

import uvicorn

from coordination.gateway.app import Gateway
from coordination.gateway.limits import Limits
from coordination.gateway.line import Line
from coordination.operations.http_limits import http_limits

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
GRACE_S = 2
BACKLOG = 2048
"""Clients of a gateway that was stopped come all at once."""


def serve(gateway: Gateway, listening: socket.socket, limits: Limits) -> None:
    """Until we are stopped."""
    server = uvicorn.Server(
        uvicorn.Config(
            gateway.app(),
            http=http_limits(limits.hello_s, limits.clients),
            ws=Line,
            ws_max_size=limits.frame_bytes,
            ws_ping_interval=limits.ping_s,
            ws_ping_timeout=limits.ping_s,
            ws_per_message_deflate=False,  # 0.3 MiB for each client that asks for it
            backlog=BACKLOG,
            proxy_headers=bool(limits.proxies),
            forwarded_allow_ips=list(limits.proxies),
            timeout_graceful_shutdown=GRACE_S,
            log_config=None,
            access_log=False,
        )
    )

    def stop(_number: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    for number in STOPS:  # uvicorn ends itself by the signal that it got; ours, which it puts back first, end nothing
        signal.signal(number, stop)
    server.run(sockets=[listening])
