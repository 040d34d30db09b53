"""Streams followed from anywhere, as often as one likes: all that stands there, and what comes.

Nothing is handed out and nothing acknowledged: how far a follower has come is all that there is, and it has that itself. So
it goes on where it was after an outage of Redis, or in another process; `since` is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from redis import Redis

from coordination.messages.outage import PATIENCE_S, Absence

BEGINNING = "0-0"
TICK_S = 1.0
READ_AT_ONCE = 1000


@dataclass(frozen=True)
class Entry:
    stream: str
    id: str
    fields: Mapping[str, str]


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
