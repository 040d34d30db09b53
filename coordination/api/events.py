"""Events of a run, by name, and their subscribers.

`Run.wait` calls the subscribers one after the other in its own thread: nothing runs in the background.
`Run.events` is the iterator for callers that would rather ask.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from coordination.errors import UsageError
from coordination.runs.records import TodoState
from coordination.runs.views import progress
from coordination.text import did_you_mean

NAMES = (
    "run.started", "run.paused", "run.resumed", "run.imported", "run.cancelled", "run.timed_out", "run.rolling_back", "run.stuck", "run.ended",
    "level.opened", "level.settled",
    "todo.ready", "todo.dispatched", "todo.started", "todo.parked", "todo.retrying", "todo.lost", "todo.poison", "todo.settled",
    "todo.compensating", "todo.accepted", "todo.approved", "todo.rejected",
    "redis.restarted",
)  # fmt: skip

STATES = frozenset(state.value for state in TodoState)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Event:
    """`name` is one of NAMES. `todo` is empty in events of the run."""

    name: str
    run: str
    todo: str
    at: datetime
    facts: Mapping[str, str]
    """Of a todo: `state` and `attempt`; `undo` where a compensation is meant; `waits_for` where it is
    parked. Of `run.ended`: `status`, and `at` in ms: a run that is rolled back later ends again. Of a
    decision: `by`.
    """


Subscriber = Callable[[Event], object]


class Subscribers:
    def __init__(self) -> None:
        self._all: list[tuple[str, Subscriber]] = []

    def on(self, pattern: str, subscriber: Subscriber) -> None:
        """Subscribe to a name, or to several: `todo.*`, `*`. Raises UsageError for an unknown name."""
        if not any(fnmatchcase(name, pattern) for name in NAMES):
            raise UsageError(
                f"there is no event {pattern!r}{did_you_mean(pattern, NAMES)}", f"one of: {', '.join(NAMES)}"
            )
        self._all.append((pattern, subscriber))

    def tell(self, event: Event) -> None:
        """Call the subscribers of the event. A failing one is logged; the others, and the run, continue."""
        for pattern, subscriber in self._all:
            if fnmatchcase(event.name, pattern):
                try:
                    subscriber(event)
                except Exception:
                    logger.exception("a subscriber to %s failed", pattern)


def event_of(run_id: str, event: progress.RunEvent) -> Event:
    name, facts = event.what, dict(event.fields)
    kind, _, word = name.partition(".")
    if kind == "todo" and word in STATES:
        state = TodoState.COMPENSATING if word == TodoState.RUNNING and "undo" in facts else TodoState(word)
        facts["state"] = state.value
        name = "todo.settled" if state.ended else f"todo.{'started' if state is TodoState.RUNNING else state}"
    at = datetime.fromtimestamp(event.at_ms / 1000, UTC)
    return Event(name=name, run=run_id, todo=event.todo, at=at, facts=facts)
