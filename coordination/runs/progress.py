"""A run followed event by event, from anywhere, as often as one likes: the events stand in a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import redis

from coordination.messages.following import BEGINNING, TICK_S, Following
from coordination.messages.outage import PATIENCE_S
from coordination.wire.keys import Keys

ENDED = "run.ended"


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
    since: str = BEGINNING,
    tick_s: float = TICK_S,
    patience_s: float = PATIENCE_S,
) -> Iterator[Event | None]:
    """Every event from `since` on, and None whenever nothing came for a tick; ends with `run.ended`.

    `reader` must block (Profile.READER). Redis may be away for `patience_s`; then it is Unreachable.
    """
    hint = f"the run goes on when it is back; then: coord watch {run_id}"
    following = Following(reader, {keys.run(run_id).events: since}, hint=hint, patience_s=patience_s, tick_s=tick_s)
    while True:
        entries = following.read()
        if not entries:
            yield None
        for entry in entries:
            fields = dict(entry.fields)
            event = Event(entry.id, fields.pop("what"), fields.pop("todo"), fields)
            yield event
            if event.what == ENDED:
                return
