"""What an attempt wrote: passed on to its log, and its end kept, in which a retry policy may look for a pattern."""

from __future__ import annotations

import time
from threading import Event

from coordination.dependencies.searching import fits_a_line
from workers.logs import Log

KEPT_BYTES = 64 * 1024
SEARCH_S = 2.0
"""For all patterns of one failure together. One of them costs 25 ms."""


class Wrote:
    def __init__(self, log: Log) -> None:
        self._log = log
        self._tail = bytearray()
        self._cut = False
        self._until: float | None = None

    def take(self, data: bytes) -> None:
        self._log.write(data)
        self._tail += data
        if len(self._tail) > 2 * KEPT_BYTES:  # not at each piece: a tail is moved as a whole
            self._trim()

    def forget(self) -> None:
        """Another command begins: what was written so far is none of its own."""
        self._tail.clear()
        self._cut = False

    @property
    def tail(self) -> str:
        """The last of it."""
        return self._tail[-KEPT_BYTES:].decode(errors="replace")

    def shows(self, pattern: str) -> bool:
        """Whether a line of it fits. What cannot be said in time counts as no, and stands in the log."""
        if len(self._tail) > KEPT_BYTES:
            self._trim()
        self._until = self._until or time.monotonic() + SEARCH_S
        fits = fits_a_line(pattern, self._lines(), until=self._until, stopped=Event())
        if fits is None:
            self._log.say(f"looking for {pattern!r} in the output takes for ever: make the pattern simpler")
        return bool(fits)

    def _trim(self) -> None:
        del self._tail[:-KEPT_BYTES]
        self._cut = True

    def _lines(self) -> bytes:
        """What a cut has left of a line is no line."""
        return bytes(self._tail[self._tail.find(b"\n") + 1 :] if self._cut else self._tail)
