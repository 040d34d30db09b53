"""Waiting until something came: a subscription only wakes, and one that was lost costs an interval."""

from __future__ import annotations

from datetime import timedelta

from redis.client import PubSub
from redis.exceptions import TimeoutError

from coordination.messages.decoding import text
from coordination.messages.steps import Steps
from coordination.wire.connection import reaching


class WakeSubscription:
    """Of one recipient. Not for several threads at a time."""

    def __init__(self, steps: Steps, recipient: str) -> None:
        self._steps = steps
        self._channel = steps.keys.mail(recipient)
        self._subscription: PubSub | None = None

    def listen(self) -> None:
        """From here on nothing is missed; call it before looking into the inbox. Raises Unreachable."""
        if self._subscription is None:
            with reaching(self._steps.url):
                self._subscription = self._steps.line.subscription()
                self._subscription.subscribe(self._channel)
                if self._subscription.get_message(timeout=self._steps.patience_s) is None:
                    raise TimeoutError("no answer to SUBSCRIBE")

    def wait(self, longest: timedelta) -> str:
        """Until something came, or that long; returns the word that was said with it, mostly none. Raises Unreachable."""
        assert self._subscription is not None, "listen first"
        with reaching(self._steps.url):
            heard = self._subscription.get_message(timeout=longest.total_seconds())
        return text(heard["data"]) if heard and heard["type"] == "message" else ""

    def close(self) -> None:
        """The next `listen` begins anew."""
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
