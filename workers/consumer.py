"""Celery's consumer, with its events for Flower in larger pieces.

Celery sends what it has to tell at each turn of its loop: three small messages a todo, which took a quarter of a worker's time
(measured, with todos that do nothing). Where there are many, Flower shows them a twentieth of a second later.
"""

from __future__ import annotations

import time

from celery.worker.consumer import Consumer as CeleryConsumer

TELL_EACH_S = 0.05


class Consumer(CeleryConsumer):  # type: ignore[misc]
    _tells = False
    _told_s = 0.0

    def on_send_event_buffered(self) -> None:
        if self.hub and not self._tells:
            self._tells = True
            self.hub.call_soon(self._tell_in_time)  # which any thread may ask for, and a timer not

    def _tell_in_time(self) -> None:
        """At once, where it is not one of many."""
        wait_s = self._told_s + TELL_EACH_S - time.monotonic()
        if wait_s > 0:
            self.hub.call_later(wait_s, self._tell)
        else:
            self._tell()

    def _tell(self) -> None:
        self._tells, self._told_s = False, time.monotonic()
        self._flush_events()
