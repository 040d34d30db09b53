"""Retrying while Redis is unreachable, with exponential backoff and full jitter.

See Brooker, "Exponential Backoff And Jitter", AWS 2015. `Outage` is for code that can wait, `Absence` for
code that does other work between two tries. Retries of a single command are in backend/step_connection.py.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from math import inf
from threading import Event
from typing import TypeVar

from redis import Redis

from coordination.backend.client import address_of, reaching
from coordination.errors import Unreachable, Unusable
from coordination.retry import delay_s, growing_pauses_s, retried

PATIENCE_S = 60.0
"""Time that a follower of a stream waits for Redis."""

Answer = TypeVar("Answer")
logger = logging.getLogger(__name__)


class Stopped(Exception):
    """The reader was stopped while it waited for Redis."""


class Outage:
    """Retries an operation until it succeeds or its owner is stopped."""

    def __init__(self, stopped: Event, patience: timedelta | None) -> None:
        self._stopped = stopped
        self._patience_s = inf if patience is None else patience.total_seconds()

    def outlive(self, attempt: Callable[[], Answer], longest_s: float = inf) -> Answer:
        """Return the result of `attempt`, retried while Redis is unreachable.

        Raises Unreachable after the patience, or after `longest_s` if that is shorter; Unusable at once;
        Stopped.
        """
        end = time.monotonic() + min(self._patience_s, longest_s)

        def passes(error: Exception, _pause_s: float) -> bool:
            if isinstance(error, Unusable) or not isinstance(error, Unreachable) or time.monotonic() >= end:
                return False
            logger.warning("trying again: %s", error.message)
            return True

        def wait(pause_s: float) -> None:
            if self._stopped.wait(min(pause_s, max(0.0, end - time.monotonic()))):
                raise Stopped

        return retried(attempt, growing_pauses_s(), passes, wait)


class Absence:
    """Duration of an outage and the time of the next try, with growing, random delays."""

    def __init__(self, reader: Redis, hint: str, patience_s: float = PATIENCE_S) -> None:
        """`hint` is the remedy that is shown after `patience_s`."""
        self._url = address_of(reader)
        self._hint = hint
        self._patience_s = patience_s
        self._began: float | None = None
        self._failures = 0
        self._next = 0.0

    @contextmanager
    def outlived(self) -> Iterator[None]:
        """Record in a `with` block whether Redis answers, and suppress Unreachable within the patience.

        Raises Unreachable after the patience, Unusable at once.
        """
        try:
            with reaching(self._url):
                yield
        except Unusable:
            raise
        except Unreachable as error:
            self._record_failure(error)
        else:
            self._began, self._failures = None, 0

    def wait(self, longest_s: float = float("inf")) -> bool:
        """Wait until the next try, at most `longest_s`; return whether it is due."""
        left = self._next - time.monotonic()
        if left > 0:
            time.sleep(min(left, longest_s))
        return left <= longest_s

    def _record_failure(self, error: Unreachable) -> None:
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        left = self._began + self._patience_s - now
        if left <= 0:
            words = f"Redis has been away for {self._patience_s:.0f} s: {error.message}"
            raise Unreachable(words, self._hint) from error
        self._next = now + min(delay_s(self._failures), left)
        self._failures += 1
