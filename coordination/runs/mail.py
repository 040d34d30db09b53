"""Messages as an ecosystem has set them: how long they live, and how many wait for whom."""

from __future__ import annotations

from redis import Redis

from coordination.messages import Limits, MessageBus
from coordination.runs.submit import actor
from coordination.settings import Settings


def limits(settings: Settings) -> Limits:
    return Limits(ttl=settings.message_ttl, inbox_limit=settings.inbox_limit, inbox_keep=settings.inbox_keep)


def open_bus(redis: Redis, settings: Settings, sender: str | None = None) -> MessageBus:
    """`sender`: where nothing is said, who works at this machine."""
    name = sender or "".join(actor().split())
    return MessageBus(redis, settings.namespace, sender=name, limits=limits(settings))
