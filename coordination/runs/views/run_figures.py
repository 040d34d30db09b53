"""Figures of an ended run that the history keeps: its lower bound, and what its todos waited for."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import Any

from redis import Redis

from coordination.backend.keys import Keys
from coordination.errors import NotFound, Unreadable
from coordination.events.stream import EventStream
from coordination.history.run_events import StreamSource
from coordination.runs.views.progress import all_events
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


def run_figures(redis: Redis, keys: Keys, run_id: str) -> dict[str, Any]:
    """Return `bound_s` (seconds), and `waits`: repository → wait reason → seconds, summed over its todos.

    Empty where the records of the run are gone or damaged.
    """
    try:
        run = RunReader(redis, keys).read(run_id)
        repo_of = {todo.id: todo.repo for todo in run.todos}
        line = timeline(list(all_events(redis, keys, run_id)), repo_of, now_ms=0)
    except (NotFound, Unreadable, *DAMAGE):
        return {}
    waits: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for wait in line.waits if line else ():
        waits[repo_of.get(wait.todo, "")][wait.reason.value] += (wait.end_ms - wait.start_ms) / 1000
    rounded = {repo: {why: round(s, 3) for why, s in reasons.items()} for repo, reasons in waits.items()}
    return {"waits": rounded} | ({} if run.bound_s is None else {"bound_s": run.bound_s})
