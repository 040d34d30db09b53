"""For scripts: events of a run by name, and actions that are tried again.

`Run.wait` calls the subscribers one after the other in its own thread: nothing runs in the background.
`Run.events` is the iterator for callers that poll.
"""

from __future__ import annotations

import logging
import random
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from pydantic import ValidationError

from coordination.breakers.manager import BreakerManager
from coordination.breakers.records import Policy
from coordination.errors import BreakerOpen, UsageError
from coordination.models import Retry
from coordination.runs.records import TodoState
from coordination.runs.retry_policy import Again, Failure, decide
from coordination.runs.views import progress
from coordination.text import did_you_mean

NAMES = (
    "run.started", "run.paused", "run.resumed", "run.imported", "run.cancelled", "run.timed_out",
    "run.rolling_back", "run.stuck", "run.ended",
    "level.opened", "level.settled",
    "todo.ready", "todo.dispatched", "todo.started", "todo.parked", "todo.retrying", "todo.lost",
    "todo.poison", "todo.settled",
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
    """Fields of the event. For a todo: `state` and `attempt`; `undo` for a compensation; `waits_for` if it is
    parked. For `run.ended`: `status`, and `at` in ms, because a run that is rolled back ends again. For a
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


T = TypeVar("T")


def retrying(
    breakers: BreakerManager,
    name: str,
    action: Callable[[], T],
    *,
    breaker: Policy | None = None,
    **policy: Any,
) -> T:
    """Return what the action returns. `policy`: the fields of a todo's `retry`. Raises what the last try
    raised, BreakerOpen, UsageError.
    """
    rules = _rules(policy)
    failures = 0
    while True:
        try:
            return breakers.call(name, action, policy=breaker)
        except BreakerOpen:
            raise
        except Exception as error:
            failures += 1
            match decide(rules, failures, random.random(), _failure(error)):  # noqa: S311 (jitter, no secret)
                case Again(delay):
                    time.sleep(delay.total_seconds())
                case _:
                    raise


def _rules(policy: dict[str, Any]) -> Retry:
    try:
        return Retry.model_validate(policy)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        known = ", ".join(Retry.model_fields)
        raise UsageError(f"{field} of a retry policy: {first['msg']}", f"there are: {known}") from error


def _failure(error: Exception) -> Failure:
    """Return the error as a retry policy sees it: exit code and output of a command, a timeout, the
    message.
    """
    output = getattr(error, "stderr", None) or getattr(error, "output", None) or str(error)
    text = output.decode(errors="replace") if isinstance(output, bytes) else str(output)
    return Failure(
        exit_code=error.returncode if isinstance(error, subprocess.CalledProcessError) else None,
        timeout=isinstance(error, TimeoutError | subprocess.TimeoutExpired),
        shows=lambda pattern: any(re.search(pattern, line) for line in text.splitlines()),
    )
