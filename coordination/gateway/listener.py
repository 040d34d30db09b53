"""The Redis subscription that wakes all clients: new messages, events, and tokens that ended.

It only wakes; changes that it misses during an outage of Redis are looked up afterwards.
"""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import dataclass
from typing import Protocol

import redis
from redis.client import PubSub

from coordination.backend.keys import Keys
from coordination.messages.topics import Event, read_event

LOOK_EVERY_S = 1.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class News:
    """A session of this recipient may have to end; `but` is the id of the new session elsewhere, or "" if the
    token changed.
    """

    recipient: str
    but: str = ""

    def __str__(self) -> str:
        return json.dumps(vars(self))

    @classmethod
    def read(cls, text: str) -> News:
        return cls(**json.loads(text))


class ListenerCallbacks(Protocol):
    """Callbacks, called in the listener's thread."""

    def mail(self, recipient: str) -> None: ...
    def news(self, news: News) -> None: ...
    def event(self, event: Event) -> None: ...
    @property
    def wants_events(self) -> bool: ...
    def resubscribed(self) -> None:
        """The subscription has (re)started; earlier messages may have been missed."""


class Listener:
    """`reader` must block without a timeout of its own, and decode responses."""

    def __init__(self, reader: redis.Redis, keys: Keys, callbacks: ListenerCallbacks) -> None:
        self._reader, self._callbacks = reader, callbacks
        self._news = keys.gateway.news
        self._mail, self._live = keys.messages.mail(""), keys.messages.live("")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="gateway listener", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _listen(self) -> None:
        subscription = self._reader.pubsub(ignore_subscribe_messages=True)
        while not self._stopping.is_set():
            try:
                self._process_message(subscription)
            except (redis.RedisError, UnicodeDecodeError) as error:  # foreign messages
                logger.debug("not listening: %s", error)
                subscription.reset()
                self._stopping.wait(LOOK_EVERY_S)
        subscription.close()

    def _process_message(self, subscription: PubSub) -> None:
        if not subscription.subscribed:
            subscription.psubscribe(f"{self._mail}*", f"{self._live}*")
            subscription.subscribe(self._news)
            self._callbacks.resubscribed()
        message = subscription.get_message(timeout=LOOK_EVERY_S)
        if message is None:
            return
        if message["channel"] == self._news:
            self._process_news(message["data"])
        elif message["channel"].startswith(self._live):
            self._process_event(message["channel"].removeprefix(self._live), message["data"])
        else:
            self._callbacks.mail(message["channel"].removeprefix(self._mail))

    def _process_event(self, topic: str, text: str) -> None:
        event = read_event(topic, text) if self._callbacks.wants_events else None
        if event is not None:
            self._callbacks.event(event)

    def _process_news(self, text: str) -> None:
        try:
            news = News.read(text)
        except (ValueError, TypeError) as error:
            logger.warning("ignored a foreign message on the gateways' channel: %s", error)
        else:
            self._callbacks.news(news)
