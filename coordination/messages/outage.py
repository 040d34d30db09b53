"""Let a reader outlive an outage of Redis, with the pauses of `coordination/retry.py`.

`Outage` is for a reader that has nothing else to do meanwhile, `Absence` for one that looks around between
two tries. A single command is insisted on for seconds by backend/step_connection.py.
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
"""How long a reader of a stream waits for Redis."""

Answer = TypeVar("Answer")
logger = logging.getLogger(__name__)


class Stopped(Exception):
    """The reader was told to stop while it waited for Redis: nobody wants the answer any more."""


class Outage:
    """Tries an action again until it succeeds, or its owner is stopped."""

    def __init__(self, stopped: Event, patience: timedelta | None) -> None:
        self._stopped = stopped
        self._patience_s = inf if patience is None else patience.total_seconds()

    def outlive(self, attempt: Callable[[], Answer], longest_s: float = inf) -> Answer:
        """Return what `attempt` answers as soon as Redis does.

        Raises Unreachable after the patience, or after `longest_s` if that is sooner; Unusable at once;
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
    """How long Redis has been away by now, and when it is asked again.

    Later and later, and not by all at once.
    """

    def __init__(self, reader: Redis, hint: str, patience_s: float = PATIENCE_S) -> None:
        """`hint`: what to do when it has been away for longer than `patience_s`."""
        self._url = address_of(reader)
        self._hint = hint
        self._patience_s = patience_s
        self._began: float | None = None
        self._failures = 0
        self._next = 0.0

    @contextmanager
    def outlived(self) -> Iterator[None]:
        """For what is asked of Redis: that it does not answer is noted, and the end of this block.

        Raises Unreachable when the patience is over, Unusable at once.
        """
        try:
            with reaching(self._url):
                yield
        except Unusable:
            raise
        except Unreachable as error:
            self._note(error)
        else:
            self._began, self._failures = None, 0

    def wait(self, longest_s: float = float("inf")) -> bool:
        """Until Redis is to be asked, or that long; whether it is time to ask."""
        left = self._next - time.monotonic()
        if left > 0:
            time.sleep(min(left, longest_s))
        return left <= longest_s

    def _note(self, error: Unreachable) -> None:
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        left = self._began + self._patience_s - now
        if left <= 0:
            words = f"Redis has been away for {self._patience_s:.0f} s: {error.message}"
            raise Unreachable(words, self._hint) from error
        self._next = now + min(delay_s(self._failures), left)
        self._failures += 1
