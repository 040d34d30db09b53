"""The history and the stream of events of a namespace: reads the stream into the history, and forwards the
edits of a file from its journal to the stream, each once.

A worker forwards the edits of the file that it follows, so that readers of the stream learn of them, and a
history on another host keeps them. The step keeps the number of the last edit that was forwarded. The event
has the id that it gets in the history of the file's own machine: a history that reads both keeps one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from coordination.events.kinds import GAP
from coordination.events.records import Event, place
from coordination.events.stream import EventStream
from coordination.history.collect import events_after, settled
from coordination.history.events import HistoryEvent
from coordination.history.store import HistoryStore
from coordination.messages.live import BEGINNING

BATCH = 1000
REPLAYED = timedelta(hours=1)
"""How long events stay in the stream after the history has them, for readers that were away."""
WHOLE = "event"
"""Data of an event that a worker took from the journal of its machine: the whole of it as JSON."""
LONGEST_EVENT = 256 * 1024
"""Longest event as JSON, in characters. A larger foreign change keeps its counts and loses its parts."""
NUMBERS = frozenset(
    ("attempt", "duration_ms", "tried_ms", "exit_code", "level", "succeeded", "failed", "skipped",
     "cancelled", "compensated", "lost", "open_ms")
)  # fmt: skip
"""Data of events that are numbers."""


@dataclass(frozen=True, kw_only=True)
class StreamSource:
    stream: EventStream
    namespace: str
    run_figures: Callable[[Event], Mapping[str, Any]]
    """Returns what the event of a run's end gets in addition; see runs/views/metrics.py."""
    trims: bool
    """True if this history alone keeps the events, so that the stream may be trimmed behind it."""


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


def forward(file: Path, stream: EventStream) -> int:
    """Forward the edits since the last time; return the number of events.

    Raises redis-py's errors, CoordinationError, EditConflict.
    """
    journal, source, _ = settled(file)
    forwarded = 0
    for number, events in events_after(journal, source, stream.forwarded(source)):
        forwarded += stream.forward(source, number, [_row(event) for event in events])
    return forwarded


def _row(event: HistoryEvent) -> tuple[str, ...]:
    whole = event.model_dump_json(exclude={"matched"}, exclude_defaults=True)
    if event.parts:
        parts = ",".join(part.model_dump_json(exclude_defaults=True) for part in event.parts)
        if len(whole) + len(parts) < LONGEST_EVENT:
            whole = f'{whole[:-1]},"parts":[{parts}]}}'
    return (event.kind, event.subject, event.actor, " ".join(event.repos), event.title, whole)
