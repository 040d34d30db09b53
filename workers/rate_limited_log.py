"""A log that says a thing once: while Redis is away for a night, each thread would say so twice a second."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

AGAIN_AFTER_S = 60.0
REMEMBERED = 1000
_COUNTING = ("celery.", "kombu.")
_NUMBER = re.compile(r"\d+")


class RateLimitedLog(logging.Filter):
    """Lets a warning through unless the same logger has said it within the last minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        now, words = self._clock(), (record.name, _words(record))
        if now - self._said.get(words, -AGAIN_AFTER_S) < AGAIN_AFTER_S:
            return False
        if len(self._said) >= REMEMBERED:
            self._said.clear()
        self._said[words] = now
        return True


def _words(record: logging.LogRecord) -> str:
    """The carrier counts its attempts, and says so; in our own words a number is a todo's, a run's or a process'."""
    said = record.getMessage()
    return _NUMBER.sub("#", said) if record.name.startswith(_COUNTING) else said
