"""The events of a run, read or followed.

They are in a stream, so a run can be followed from anywhere and any number of times.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import redis

from coordination.backend.keys import Keys
from coordination.events.records import BEGINNING, Event
from coordination.events.stream import TICK_S
from coordination.messages.outage import PATIENCE_S, Absence
from coordination.runs.records import RunStatus, TodoState

ENDED = "run.ended"
STATES = frozenset(state.value for state in TodoState)
_WHAT = re.compile(r"(run|level|todo|redis)\.[a-z_]{1,32}")
READ_AT_ONCE = 5000
FOLLOWED_AT_ONCE = 1000
_ATTEMPT = re.compile(r"[0-9]{1,9}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunEvent:
    """An event; `what` is `run.<word>`, `level.<word>`, `todo.<state>`,
    `todo.lost`, `todo.poison` or `redis.restarted`.
    """

    id: str
    what: str
    todo: str
    fields: Mapping[str, str]

    @property
    def at_ms(self) -> int:
        return int(self.id.partition("-")[0])

    def as_event(self, run_id: str) -> Event:
        """Return the entry as an event of the namespace; its id is that of the entry."""
        kind, facts = self.what, dict(self.fields)
        noun, _, word = kind.partition(".")
        if noun == "todo" and word in STATES:
            undone = word == TodoState.RUNNING and "undo" in facts
            state = TodoState.COMPENSATING if undone else TodoState(word)
            facts["state"] = state.value
            kind = (
                "todo.settled"
                if state.ended
                else f"todo.{'started' if state is TodoState.RUNNING else state}"
            )
        return Event(
            id=self.id,
            at=datetime.fromtimestamp(self.at_ms / 1000, UTC),
            kind=kind,
            subject=self.todo or run_id,
            run=run_id,
            actor=facts.pop("actor", facts.get("by", "")),
            repos=tuple(facts.pop("repos", "").split()),
            title=facts.pop("title", ""),
            data=facts,
            entry=self.id,
        )


def event_of(entry_id: str, fields: Mapping[str, str]) -> RunEvent | None:
    """Return the event of an entry; None if it is not one of coord: other programs can write to Redis too."""
    what, todo = fields.get("what", ""), fields.get("todo")
    if todo is None or not _WHAT.fullmatch(what) or not _ATTEMPT.fullmatch(fields.get("attempt", "1")):
        return None
    return RunEvent(
        entry_id, what, todo, {name: value for name, value in fields.items() if name not in ("what", "todo")}
    )


def all_events(client: redis.Redis, keys: Keys, run_id: str) -> Iterator[RunEvent]:
    """Yield the events of a run so far, in order."""
    since = "-"
    while entries := client.xrange(keys.run(run_id).events, since, count=READ_AT_ONCE):
        for key, fields in entries:
            if event := event_of(key, fields):
                yield event
        since = f"({key}"


def follow(
    reader: redis.Redis,
    keys: Keys,
    run_id: str,
    *,
    since: str = BEGINNING,
    tick_s: float = TICK_S,
    patience_s: float = PATIENCE_S,
) -> Iterator[RunEvent | None]:
    """Yield every event from `since` on, and None after each tick without one.

    The iterator ends with a `run.ended` after which the run is over: an ended run may be rolled back, and
    then ends again. `reader` must be a blocking client (Profile.READER). Raise Unreachable when Redis does
    not answer for `patience_s`.
    """
    hint = f"the run continues when Redis is back; then: coord watch {run_id}"
    absence, stream, last = Absence(reader, hint, patience_s), keys.run(run_id).events, since
    while True:
        entries: list[tuple[str, Mapping[str, str]]] = []
        if absence.wait(tick_s):
            with absence.outlived():
                answer = reader.xread({stream: last}, count=FOLLOWED_AT_ONCE, block=int(tick_s * 1000))
                entries = answer[0][1] if answer else []
        if not entries:
            if _is_over(reader, keys, run_id, last):
                return
            yield None
        for last, fields in entries:
            if (event := event_of(last, fields)) is None:
                logger.warning("%s of run %s is not an event of coord: skipped", last, run_id)
                continue
            yield event
            if event.what == ENDED and _holds(reader, keys, run_id, event):
                return


def _holds(reader: redis.Redis, keys: Keys, run_id: str, ended: RunEvent) -> bool:
    with suppress(redis.ConnectionError, redis.TimeoutError):  # then it is checked at the next quiet moment
        status, finished_at = reader.hmget(keys.run(run_id).meta, ["status", "finished_at"])
        return status is None or (
            RunStatus(status).ended and ended.fields.get("at", finished_at) == finished_at
        )
    return False


def _is_over(reader: redis.Redis, keys: Keys, run_id: str, last: str) -> bool:
    """Return whether no further event comes: its end was reported before, or its records were deleted."""
    run = keys.run(run_id)
    with suppress(redis.ConnectionError, redis.TimeoutError):
        status = reader.hget(run.meta, "status")
        return status is None or (
            RunStatus(status).ended and not reader.xrange(run.events, f"({last}", count=1)
        )
    return False
