"""Passes the events of coord on to clients that subscribed to topics `events.<kind>`, such as
`events.run.*`, as they happen; topics.py repeats earlier ones.
"""

from __future__ import annotations

import logging

import redis

from coordination.background import BackgroundService
from coordination.errors import Unreachable, Unusable
from coordination.events.kinds import GAP
from coordination.events.stream import EventStream, Follower
from coordination.gateway.clients import Clients
from coordination.gateway.topics import topic_event

AGAIN_AFTER_S = 1.0
REFUSED_AGAIN_AFTER_S = 60.0

logger = logging.getLogger(__name__)


class EventListener(BackgroundService):
    """Follows the stream of events from now on; each round blocks until an event arrives, at most a second.

    `reader` must block without a timeout of its own, and decode replies.
    """

    name = "gateway events"
    interval_s = 0.0
    first_at_once = True

    def __init__(self, reader: redis.Redis, namespace: str, clients: Clients) -> None:
        super().__init__()
        self._reader, self._namespace, self._clients = reader, namespace, clients
        self._follower: Follower | None = None

    def run_once(self) -> int:
        """Pass on what is new; return how many events."""
        if self._follower is None:
            end = EventStream(self._reader, self._namespace).end()
            self._follower = Follower(self._reader, self._namespace, end)
        events = self._follower.read()
        for event in events:
            if event.kind == GAP:
                self._clients.missed_events()
            else:
                self._clients.event_of_coord(topic_event(event))
        self._clients.events_passed(self._follower.position)
        return len(events)

    def failed(self, error: Exception) -> float:
        if isinstance(error, Unusable | redis.NoPermissionError):
            logger.warning("the gateway may not read events; give its user the present rights: coord acl")
            return REFUSED_AGAIN_AFTER_S
        if isinstance(error, Unreachable | redis.RedisError):
            logger.debug("no events: %s", error)
            return AGAIN_AFTER_S
        return super().failed(error) or AGAIN_AFTER_S
