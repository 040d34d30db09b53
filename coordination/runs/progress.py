"""A run followed event by event, from anywhere, as often as one likes: the events stand in a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import redis

from coordination.runs.patience import AWAY, PATIENCE_S, Patience
from coordination.wire.keys import Keys

ENDED = "run.ended"
READ_AT_ONCE = 1000


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
    reader: redis.Redis,
    keys: Keys,
    run_id: str,
    *,
    since: str = "0",
    tick_s: float = 1.0,
    patience_s: float = PATIENCE_S,
) -> Iterator[Event | None]:
    """Every event from `since` on, and None whenever nothing came for a tick; ends with `run.ended`.

    `reader` must block (Profile.READER). Redis may be away for `patience_s`; then it is Unreachable.
    """
    stream = keys.run(run_id).events
    patience = Patience(f"the run goes on when it is back; then: coord watch {run_id}", patience_s)
    while True:
        try:
            answer = reader.xread({stream: since}, count=READ_AT_ONCE, block=int(tick_s * 1000))
            patience.answered()
        except AWAY as error:
            patience.wait(error)
            answer = []
        if not answer:
            yield None
        for event_id, fields in answer[0][1] if answer else ():
            since = event_id
            event = Event(event_id, fields.pop("what"), fields.pop("todo"), fields)
            yield event
            if event.what == ENDED:
                return
