"""What is done when the server's clock was set: nobody is declared lost for it, and nothing waits for it. See clock.py.

Each keeper looks, whoever leads: a step forwards ends the lead as well, and whoever takes it must know of the step. What lasts
too long after a step backwards is put right by the one that leads, once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from coordination.runs.clock import Look, ServerClock, Step
from coordination.runs.presence import Presence
from coordination.runs.store import RunStore, ms
from coordination.settings import Settings
from coordination.wire.keys import split_member
from coordination.wire.scripts import Scripts

ANSWERED_WITHIN_S = 60.0
"""By then somebody leads, and has seen to it."""

logger = logging.getLogger(__name__)


class ClockWatch:
    def __init__(self, store: RunStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._presence = Presence(store.redis, store.keys)
        self._step = Scripts(store.redis)
        self._clock = ServerClock()
        self._seen: list[tuple[float, Step]] = []
        self.now_ms = 0
        """At the last look, by the server's clock."""

    def look(self) -> Step | None:
        """How far it was set since the last look, if it was."""
        asked_s = time.monotonic()
        self.now_ms = self._store.now_ms()
        step = self._clock.look(Look(server_ms=self.now_ms, asked_s=asked_s, answered_s=time.monotonic()))
        self._seen = [(at, seen) for at, seen in self._seen if asked_s - at < ANSWERED_WITHIN_S]
        if step is not None:
            self._seen.append((asked_s, step))
            words = "leases are trusted again after"
            logger.warning("Redis' clock was set by %+.1f s: %s %s", step.by_ms / 1000, words, self._settings.lease_ttl)
        return step

    @property
    def was_set_back(self) -> bool:
        """Not long ago."""
        return any(step.is_back for _, step in self._seen)

    def answer(self) -> None:
        """By whoever leads."""
        while self._seen:
            _, step = self._seen[0]
            self._put_right(step)
            del self._seen[0]  # not before: Redis may be away

    def _put_right(self, step: Step) -> None:
        keys = self._store.keys
        words = [step.by_ms, step.earliest_ms, step.seen_ms, ms(self._settings.lease_ttl)]
        moved = [part for timer in self._to_be_moved(step) for part in timer]
        self._step("lease/clock_step", [keys.leases, keys.timers, keys.epoch, keys.counters], [*words, *moved])
        if step.is_back:
            self._presence.shorten(self._settings.heartbeat)

    def _to_be_moved(self, step: Step) -> Iterator[tuple[str, int, int]]:
        """Timers, each with when it is due and when it should be."""
        redis, keys = self._store.redis, self._store.keys
        timers = redis.zrange(keys.timers, 0, -1, withscores=True) if step.is_back else []
        with redis.pipeline(transaction=False) as pipeline:
            for name, _ in timers:
                run_id, todo_id = split_member(name)
                pipeline.hget(keys.run(run_id).facts, f"{todo_id} since")
            since = pipeline.execute(raise_on_error=False)
        for (name, due), at in zip(timers, since, strict=True):
            set_at_ms = int(at) if isinstance(at, str) else None
            if moved_ms := step.moved(int(due), set_at_ms, self.now_ms):
                yield name, int(due), moved_ms
