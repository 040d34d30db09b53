"""A reader outlives an outage of Redis: it tries again, later and later, and not all readers at the same moment."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from datetime import timedelta
from threading import Event
from typing import TypeVar

from coordination.errors import Unreachable, Unusable

FIRST_S, LONGEST_S = 1.0, 60.0

Answer = TypeVar("Answer")
logger = logging.getLogger(__name__)


class Stopped(Exception):
    """The reader was told to stop while it waited for Redis: nobody wants the answer any more."""


class Outage:
    """Exponential backoff with full jitter (Brooker, "Exponential Backoff And Jitter", AWS 2015): 1 to 60 s."""

    def __init__(self, stopped: Event, patience: timedelta | None) -> None:
        self._stopped = stopped
        self._patience_s = None if patience is None else patience.total_seconds()

    def outlive(self, attempt: Callable[[], Answer]) -> Answer:
        """What `attempt` answers as soon as Redis does. Raises Unreachable after the patience, Unusable at once, Stopped."""
        began, failures = time.monotonic(), 0
        while True:
            try:
                return attempt()
            except Unusable:
                raise
            except Unreachable as error:
                if self._patience_s is not None and time.monotonic() - began >= self._patience_s:
                    raise
                logger.warning("trying again: %s", error.message)
                if self._stopped.wait(delay_s(failures)):
                    raise Stopped from error
                failures += 1


def delay_s(failures: int) -> float:
    """Before the next try, after so many in vain before this one."""
    return random.uniform(0, min(LONGEST_S, FIRST_S * 2 ** min(failures, 10)))  # noqa: S311 -- no secret
