"""The events of runs as a source of the history, with the lower bound and the waits of each ended run."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import Any

from redis import Redis

from coordination.backend.keys import Keys
from coordination.errors import NotFound, Unreadable
from coordination.events.records import Event, place
from coordination.events.stream import EventStream
from coordination.history.collect import StreamSource
from coordination.runs.views.run_events import ENDED, all_events
from coordination.runs.views.run_view import DAMAGE, RunReader
from coordination.runs.views.timeline import timeline
from coordination.settings import Settings


def stream_source(redis: Redis, keys: Keys, settings: Settings) -> StreamSource:
    """Return the stream of events as a source of the history on this host."""
    return StreamSource(
        stream=EventStream(redis, settings.namespace),
        namespace=settings.namespace,
        run_figures=partial(run_figures, redis, keys),
        trims=settings.alone_keeps_history,
    )


def run_figures(redis: Redis, keys: Keys, ended: Event) -> dict[str, Any]:
    """Return `bound_s` (seconds), and `waits`: repository → wait reason → seconds, summed over its todos.

    A run that a rollback reopens ends again: the waits are those since its end before. Empty where the
    records of the run are gone or damaged.
    """
    try:
        run = RunReader(redis, keys).read(ended.run)
        repo_of = {todo.id: todo.repo for todo in run.todos}
        events = list(all_events(redis, keys, ended.run))
        if ended.entry:
            events = [event for event in events if place(event.id) <= place(ended.entry)]
        line = timeline(events, repo_of, now_ms=0)
    except (NotFound, Unreadable, *DAMAGE):
        return {}
    since_ms = max((event.at_ms for event in events[:-1] if event.what == ENDED), default=0)
    waits: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for wait in line.waits if line else ():
        if wait.end_ms > since_ms:
            waits[repo_of.get(wait.todo, "")][wait.reason.value] += (wait.end_ms - wait.start_ms) / 1000
    rounded = {repo: {why: round(s, 3) for why, s in reasons.items()} for repo, reasons in waits.items()}
    return {"waits": rounded} | ({} if run.bound_s is None else {"bound_s": run.bound_s})
