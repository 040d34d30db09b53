"""Waiting until something came: a subscription only wakes, and one that was lost costs an interval."""

from __future__ import annotations

from datetime import timedelta

from redis.client import PubSub

from coordination.messages.steps import Steps
from coordination.wire.connection import reaching


class Waking:
    """Of one recipient. Not for several threads at a time."""

    def __init__(self, steps: Steps, recipient: str) -> None:
        self._steps = steps
        self._channel = steps.keys.mail(recipient)
        self._subscription: PubSub | None = None

    def listen(self) -> None:
        """From here on nothing is missed; call it before looking into the inbox. Raises Unreachable."""
        if self._subscription is None:
            self._heard(self._steps.redis.pubsub(), subscribe=True)

    def wait(self, longest: timedelta) -> None:
        """Until something came, or that long. Raises Unreachable; the next `listen` begins anew."""
        assert self._subscription is not None, "listen first"
        self._heard(self._subscription, timeout_s=longest.total_seconds())

    def close(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None

    def _heard(self, subscription: PubSub, timeout_s: float = 1.0, *, subscribe: bool = False) -> None:
        self._subscription = None
        with reaching(self._steps.url):
            try:
                if subscribe:
                    subscription.subscribe(self._channel)
                subscription.get_message(timeout=timeout_s)  # of the subscription itself: Redis knows of it
                self._subscription = subscription
            finally:
                if self._subscription is None:
                    subscription.close()
