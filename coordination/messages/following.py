"""Streams followed from anywhere, as often as one likes: all that stands there, and what comes.

Nothing is handed out and nothing acknowledged: how far a follower has come is all that there is, and it has that itself. So
it goes on where it was after an outage of Redis, or in another process; `since` is enough.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from redis import Redis

from coordination.errors import Unreachable, Unusable
from coordination.messages.outage import delay_s
from coordination.wire.connection import address_of, reaching

BEGINNING = "0-0"
PATIENCE_S = 60.0
TICK_S = 1.0
READ_AT_ONCE = 1000


@dataclass(frozen=True)
class Entry:
    stream: str
    id: str
    fields: Mapping[str, str]


class Absence:
    """How long Redis has been away by now, and when it is asked again: later and later, and not by all at once."""

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


class Following:
    """Some streams. `since` is how far each was read: give it to another one, and that goes on from there."""

    def __init__(
        self,
        reader: Redis,
        since: Mapping[str, str],
        *,
        hint: str,
        patience_s: float = PATIENCE_S,
        tick_s: float = TICK_S,
    ) -> None:
        """`reader` must block and decode (Profile.READER). `since`: stream → the last entry known of it."""
        self.since = dict(since)
        self._reader = reader
        self._tick_s = tick_s
        self._absence = Absence(reader, hint, patience_s)

    def read(self) -> list[Entry]:
        """What has come; nothing where a tick brought nothing, or Redis is away. Raises Unreachable, or Unusable."""
        found: list[Entry] = []
        if self._absence.wait(self._tick_s):
            with self._absence.outlived():
                answer = self._reader.xread(self.since, count=READ_AT_ONCE, block=int(self._tick_s * 1000))
                found = [Entry(stream, at, fields) for stream, entries in answer or () for at, fields in entries]
        self.since.update({entry.stream: entry.id for entry in found})
        return found
