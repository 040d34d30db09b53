"""Subscriptions to topics, in Redis itself, without acknowledgement.

Programs without access to Redis subscribe through the gateway.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from math import inf
from typing import Self

import redis
from redis.client import PubSub

from coordination.backend.client import reaching
from coordination.errors import Unreachable, Unusable, UsageError
from coordination.messages import names, topics
from coordination.messages.records import text
from coordination.messages.steps import Steps
from coordination.messages.topics import Event, Gap, Patterns
from coordination.retry import delay_s

MOST_PATTERNS = 100


class Subscription:
    """Live events of some topics, for one thread at a time.

    Redis sends it the events of all topics, because the permissions of a Redis user (`coord acl`) name
    patterns literally, so that only one pattern is allowed.
    """

    def __init__(self, steps: Steps, wanted: tuple[str, ...]) -> None:
        """Subscribe. Raises UsageError for an invalid pattern, Unreachable."""
        self._steps = steps
        self._wanted = Patterns[str]()
        self._patterns: set[str] = set()
        self._failures = 0
        self._pubsub: PubSub | None = None
        self.subscribe(*wanted)
        self._listen()

    def subscribe(self, *wanted: str) -> None:
        new = {topics.pattern(one) for one in wanted} - self._patterns
        if any(map(topics.is_of_coord, new)):
            raise UsageError("events of coord are no topic of Redis", "follow them: coord event list -f")
        if len(self._patterns) + len(new) > MOST_PATTERNS:
            raise UsageError(f"more than {MOST_PATTERNS} patterns", "subscribe to fewer, like a.**")
        self._patterns |= new
        for one in new:
            self._wanted.add(one, one)

    def unsubscribe(self, *wanted: str) -> None:
        for one in self._patterns & set(wanted):
            self._patterns.remove(one)
            self._wanted.remove(one, one)

    def events(self, wait_s: float = inf) -> Iterator[Event | Gap]:
        """Yield events within that time, and a Gap after an outage of Redis. Raises Unusable if Redis
        refuses.
        """
        end = time.monotonic() + wait_s
        while (left_s := end - time.monotonic()) > 0:
            try:
                found = self._next(min(left_s, names.MOST_WAIT_S))
            except Unusable:
                raise
            except Unreachable:
                self.close()
                time.sleep(max(0.0, min(delay_s(self._failures), end - time.monotonic())))
                self._failures += 1
                continue
            self._failures = 0
            if found:
                yield found

    def close(self) -> None:
        if self._pubsub is not None:
            self._pubsub.close()
            self._pubsub = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next(self, wait_s: float) -> Event | Gap | None:
        if self._pubsub is None:
            self._listen()
            return Gap()
        try:
            with reaching(self._steps.url):
                received = self._pubsub.get_message(timeout=wait_s)
            if received is None or received["type"] != "pmessage":
                return None
            name = text(received["channel"]).removeprefix(self._steps.keys.live(""))
            return topics.read_event(name, text(received["data"])) if any(self._wanted.of(name)) else None
        except UnicodeDecodeError:  # not published by coord
            return None

    def _listen(self) -> None:
        """Subscribe and wait for the confirmation; no later event is missed."""
        with reaching(self._steps.url):
            pubsub = self._steps.connection.subscription()
            try:
                pubsub.psubscribe(self._steps.keys.live("*"))
                if pubsub.get_message(timeout=self._steps.patience_s) is None:
                    raise redis.TimeoutError("no answer to PSUBSCRIBE")
            except BaseException:
                pubsub.close()
                raise
        self._pubsub = pubsub
