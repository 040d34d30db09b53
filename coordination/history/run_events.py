"""Reads the stream of events of a namespace into the history, each event once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from coordination.events.kinds import GAP
from coordination.events.records import Event, place
from coordination.events.stream import EventStream
from coordination.history.events import HistoryEvent
from coordination.history.store import HistoryStore
from coordination.messages.live import BEGINNING

BATCH = 1000
REPLAYED = timedelta(hours=1)
"""How long events stay in the stream after the history has them, for readers that were away."""
WHOLE = "event"
"""Data of an event that a worker took from the journal of its machine: the whole of it as JSON."""
NUMBERS = frozenset(
    {
        "attempt",
        "attempts",
        "duration_ms",
        "exit_code",
        "level",
        "succeeded",
        "failed",
        "skipped",
        "cancelled",
    }
    | {"compensated", "lost", "open_ms"}
)
"""Data of events that are numbers."""


@dataclass(frozen=True, kw_only=True)
class StreamSource:
    stream: EventStream
    namespace: str
    run_figures: Callable[[Event], Mapping[str, Any]]
    """Returns what the event of a run's end gets in addition; see runs/views/run_figures.py."""
    trims: bool
    """Whether this history alone keeps the events, so that the stream may be trimmed behind it."""


def collect_stream(store: HistoryStore, source: StreamSource, now: datetime) -> int:
    """Keep the events since the last time; return the number of new ones.

    Raises redis-py's errors, CoordinationError of the store.
    """
    name = f"events:{source.namespace}"
    position, new = str(store.position(name) or BEGINNING), 0
    while True:
        batch = source.stream.read(position, BATCH)
        if batch.position == position and not batch.events:
            break
        events = [kept for event in batch.events if (kept := _history_event(event, source)) is not None]
        new += store.add(events, source=name, position=batch.position)
        position = batch.position
    if source.trims and position != BEGINNING:
        earlier = f"{max(0, int((now - REPLAYED).timestamp() * 1000))}-0"
        source.stream.trim(min(position, earlier, key=place))
    return new


def _history_event(event: Event, source: StreamSource) -> HistoryEvent | None:
    """Return the event as the history keeps it; None if it cannot be kept: other programs write, too."""
    try:
        if WHOLE in event.data:
            return HistoryEvent.model_validate_json(event.data[WHOLE])
        return _plain(event, source)
    except ValidationError:
        return None


def _plain(event: Event, source: StreamSource) -> HistoryEvent:
    data: dict[str, Any] = {name: _value(name, value) for name, value in event.data.items()}
    if event.run:
        data["run"] = event.run
    if event.kind == "run.ended":
        data |= source.run_figures(event)
    return HistoryEvent(
        id=f"{source.namespace}:{event.id}{'.gap' if event.kind == GAP else ''}",
        at=event.at,
        kind="history.gap" if event.kind == GAP else event.kind,
        subject=event.subject,
        title=event.title,
        actor=event.actor,
        repos=event.repos,
        data=data,
    )


def _value(name: str, value: str) -> str | int:
    return int(value) if name in NUMBERS and value.isdecimal() and len(value) < 16 else value
