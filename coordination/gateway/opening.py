"""A gateway out of an address and settings, connected at its first command."""

from __future__ import annotations

from collections.abc import Collection

from redis import Redis

from coordination.gateway.app import Gateway
from coordination.gateway.limits import Limits
from coordination.gateway.tokens import Tokens
from coordination.messages import MessageBus
from coordination.runs import mail
from coordination.settings import Settings
from coordination.wire.connection import Profile, connect
from coordination.wire.keys import Keys


def open_gateway(url: str, settings: Settings, pages: Collection[str]) -> tuple[Gateway, Limits]:
    redis = _client(url, settings, Profile.WORKER)
    limits = Limits(
        window=settings.gateway_window,
        ping_s=settings.gateway_ping.total_seconds(),
        send_s=settings.gateway_send_timeout.total_seconds(),
        proxies=settings.gateway_proxies,
    )

    def bus_of(recipient: str) -> MessageBus:
        return mail.open_bus(redis, settings, recipient)

    reader = _client(url, settings, Profile.READER)
    return Gateway(redis, reader, Keys(settings.namespace), bus_of, pages, limits), limits


def open_tokens(url: str, settings: Settings) -> Tokens:
    return Tokens(_client(url, settings, Profile.COMMAND), Keys(settings.namespace).gateway)


def open_bus(url: str, settings: Settings) -> MessageBus:
    return mail.open_bus(_client(url, settings, Profile.COMMAND), settings)


def _client(url: str, settings: Settings, profile: Profile) -> Redis:
    return connect(url, profile, settings.connect_timeout)
