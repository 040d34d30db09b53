"""A gateway made from an address and settings, from its start to its end; on TERM or Ctrl-C clients have two seconds to go."""

from __future__ import annotations

import signal
import socket
from collections.abc import Collection
from types import FrameType

import uvicorn
from redis import Redis

from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys
from coordination.gateway.access import Tokens
from coordination.gateway.app import Gateway
from coordination.gateway.limits import Limits
from coordination.gateway.line import Line
from coordination.messages import MessageBus
from coordination.messages.bus import open_bus
from coordination.operations.listening import http_limits
from coordination.settings import Settings


def open_gateway(url: str, settings: Settings, pages: Collection[str]) -> tuple[Gateway, Limits]:
    redis = _client(url, settings, Profile.WORKER)
    limits = Limits(
        window=settings.gateway_window,
        ping_s=settings.gateway_ping.total_seconds(),
        send_s=settings.gateway_send_timeout.total_seconds(),
        proxies=settings.gateway_proxies,
    )

    def bus_of(recipient: str) -> MessageBus:
        return open_bus(redis, settings, recipient)

    reader = _client(url, settings, Profile.READER)
    return Gateway(redis, reader, Keys(settings.namespace), bus_of, pages, limits), limits


def open_tokens(url: str, settings: Settings) -> Tokens:
    return Tokens(_client(url, settings, Profile.COMMAND), Keys(settings.namespace).gateway)


def open_gateway_bus(url: str, settings: Settings) -> MessageBus:
    return open_bus(_client(url, settings, Profile.COMMAND), settings)


def _client(url: str, settings: Settings, profile: Profile) -> Redis:
    return connect(url, profile, settings.connect_timeout)


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
