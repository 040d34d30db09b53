"""A run followed event by event, from anywhere, as often as one likes: the events stand in a stream."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import redis

from coordination.errors import Unreachable
from coordination.wire.keys import Keys

ENDED = "run.ended"
READ_AT_ONCE = 1000
RECONNECT_S = 0.5


@dataclass(frozen=True)
class Event:
    """`what` is `run.<word>`, `level.<word>`, `todo.<state>`, `todo.lost` or `redis.restarted`."""

    id: str
    what: str
    todo: str
    fields: Mapping[str, str]

    @property
    def at_ms(self) -> int:
        return int(self.id.partition("-")[0])


def follow(
    reader: redis.Redis, keys: Keys, run_id: str, *, since: str = "0", tick_s: float = 1.0, patience_s: float = 60.0
) -> Iterator[Event | None]:
    """Every event from `since` on, and None whenever nothing came for a tick; ends with `run.ended`.

    `reader` must block (Profile.READER). Redis may be away for `patience_s`; then it is Unreachable.
    """
    stream = keys.run(run_id).events
    away_since: float | None = None
    while True:
        try:
            answer = reader.xread({stream: since}, count=READ_AT_ONCE, block=int(tick_s * 1000))
            away_since = None
        except (redis.ConnectionError, redis.TimeoutError) as error:
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > patience_s:
                raise Unreachable(
                    f"Redis has been away for {patience_s:.0f} s: {error}",
                    f"the run goes on when it is back; then: coord watch {run_id}",
                ) from error
            time.sleep(RECONNECT_S)
            answer = []
        if not answer:
            yield None
        for event_id, fields in answer[0][1] if answer else ():
            since = event_id
            event = Event(event_id, fields.pop("what"), fields.pop("todo"), fields)
            yield event
            if event.what == ENDED:
                return
