"""The Redis subscription that wakes all clients (new messages, events, tokens that ended), and the follower
that passes the events of coord on to clients that subscribed to topics such as `events.run.*`.

The subscription only wakes; changes that it misses during an outage of Redis are looked up afterwards.
topics.py repeats earlier events.
"""

from __future__ import annotations

import logging

import redis

from coordination.backend.keys import Keys
from coordination.background import BackgroundService
from coordination.errors import Unreachable, Unusable
from coordination.events.kinds import GAP
from coordination.events.stream import EventStream, Follower
from coordination.gateway.access import News
from coordination.gateway.clients import Clients
from coordination.gateway.topics import topic_event
from coordination.messages.topics import is_of_coord, read_event

LOOK_EVERY_S = 1.0
AGAIN_AFTER_S = 1.0
REFUSED_AGAIN_AFTER_S = 60.0

logger = logging.getLogger(__name__)


class Listener(BackgroundService):
    """Reads the subscription; each round blocks until a message arrives, at most `LOOK_EVERY_S`.

    `pubsub_redis` must block without a timeout of its own, and decode responses.
    """

    name = "gateway listener"
    interval_s = 0.0
    first_at_once = True

    def __init__(self, pubsub_redis: redis.Redis, keys: Keys, clients: Clients) -> None:
        super().__init__()
        self._clients = clients
        self._news = keys.gateway.news
        self._mail, self._live = keys.messages.mail(""), keys.messages.live("")
        self._subscription = pubsub_redis.pubsub(ignore_subscribe_messages=True)

    def run_once(self) -> bool:
        """Wait for a message and pass it on; return whether one came."""
        subscription = self._subscription
        if not subscription.subscribed:
            subscription.psubscribe(f"{self._mail}*", f"{self._live}*")
            subscription.subscribe(self._news)
            self._clients.resubscribed()
        message = subscription.get_message(timeout=LOOK_EVERY_S)
        if message is None:
            return False
        if message["channel"] == self._news:
            self._process_news(message["data"])
        elif message["channel"].startswith(self._live):
            self._process_event(message["channel"].removeprefix(self._live), message["data"])
        else:
            self._clients.mail(message["channel"].removeprefix(self._mail))
        return True

    def failed(self, error: Exception) -> float:
        # Other programs can write to these channels, too.
        if not isinstance(error, redis.RedisError | UnicodeDecodeError):
            return super().failed(error) or LOOK_EVERY_S
        logger.debug("not listening: %s", error)
        self._subscription.reset()
        return LOOK_EVERY_S

    def finish(self) -> None:
        self._subscription.close()

    def _process_event(self, topic: str, text: str) -> None:
        if is_of_coord(topic):  # no program of coord publishes there
            return
        event = read_event(topic, text) if self._clients.wants_events else None
        if event is not None:
            self._clients.event(event)

    def _process_news(self, text: str) -> None:
        try:
            news = News.read(text)
        except (ValueError, TypeError) as error:
            logger.warning("ignored a foreign message on the gateways' channel: %s", error)
        else:
            self._clients.news(news)


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
