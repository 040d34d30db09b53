"""Forwards the edits of a file from its journal to the stream of events, each once.

A worker does this for the file that it follows, so that all readers of the stream learn of edits, and a
history on another host keeps them. The step keeps the number of the last edit that was forwarded. The event
has the id that it gets in the history of the file's own machine: a history that reads both keeps one.
"""

from __future__ import annotations

from pathlib import Path

from coordination.events.stream import EventStream
from coordination.history.collect import events_after, settled
from coordination.history.events import HistoryEvent

LONGEST_EVENT = 256 * 1024
"""Longest event as JSON, in characters. A larger foreign change keeps its counts and loses its parts."""


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
