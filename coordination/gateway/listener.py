"""One subscription for all clients: that something came for one of them, that a token ended. It only wakes; what it misses while
Redis is away is looked for when it is back.
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
    """Whoever is in as this recipient may have to go: `but` is the session that came in elsewhere, or nothing."""

    recipient: str
    but: str = ""

    def __str__(self) -> str:
        return json.dumps(vars(self))

    @classmethod
    def read(cls, text: str) -> News:
        return cls(**json.loads(text))


class Hears(Protocol):
    """Called in the listener's thread."""

    def mail(self, recipient: str) -> None: ...
    def news(self, news: News) -> None: ...
    def event(self, event: Event) -> None: ...
    @property
    def wants_events(self) -> bool: ...
    def anything(self) -> None:
        """It listens from here on; what came before may have been missed."""


class Listener:
    """`reader` waits without a timeout of its own, and answers in text."""

    def __init__(self, reader: redis.Redis, keys: Keys, ears: Hears) -> None:
        self._reader, self._ears = reader, ears
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
                self._hear(subscription)
            except (redis.RedisError, UnicodeDecodeError) as error:  # others write to these channels, too
                logger.debug("not listening: %s", error)
                subscription.reset()
                self._stopping.wait(LOOK_EVERY_S)
        subscription.close()

    def _hear(self, subscription: PubSub) -> None:
        if not subscription.subscribed:
            subscription.psubscribe(f"{self._mail}*", f"{self._live}*")
            subscription.subscribe(self._news)
            self._ears.anything()
        heard = subscription.get_message(timeout=LOOK_EVERY_S)
        if heard is None:
            return
        if heard["channel"] == self._news:
            self._tell(heard["data"])
        elif heard["channel"].startswith(self._live):
            self._tell_event(heard["channel"].removeprefix(self._live), heard["data"])
        else:
            self._ears.mail(heard["channel"].removeprefix(self._mail))

    def _tell_event(self, topic: str, text: str) -> None:
        event = read_event(topic, text) if self._ears.wants_events else None
        if event is not None:
            self._ears.event(event)

    def _tell(self, text: str) -> None:
        try:
            news = News.read(text)
        except (ValueError, TypeError) as error:
            logger.warning("what no gateway says is no news: %s", error)
        else:
            self._ears.news(news)
