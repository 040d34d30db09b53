"""Reads the journals of files and the stream of events into the history, each entry once, and forwards the
edits of a journal to the stream.

An edit by coord becomes one event for each record. A change by somebody else becomes one `file.changed` with
counts, the first ids and the commit, whatever its size; the figures of trends count its records one by one.

A worker forwards the edits of the file that it follows, so that readers of the stream learn of them, and a
history on another host keeps them. The step keeps the number of the last edit that was forwarded. The event
has the id that it gets in the history of the file's own machine: a history that reads both keeps one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from coordination.backend.steps.namespace import ForwardedEvent
from coordination.ecosystem.document import read_bytes
from coordination.ecosystem.editing import exclusive
from coordination.ecosystem.journal import Entry, Journal
from coordination.ecosystem.parsing import parse
from coordination.ecosystem.record_events import differences
from coordination.errors import CoordinationError, InvalidFile
from coordination.events.kinds import GAP
from coordination.events.records import BEGINNING, Event, place
from coordination.events.stream import EventStream
from coordination.history.events import OPEN, HistoryEvent
from coordination.history.store import HistoryStore
from coordination.models import Ecosystem

BATCH = 500
"""Entries in a transaction."""
MOST_IDS, MOST_REPOS = 50, 5000


def collect(store: HistoryStore, file: Path) -> int:
    """Store the events of the file since the last call; return the number of new ones.

    Raises CoordinationError, EditConflict.
    """
    journal, source, end = settled(file)
    known = last = int(store.position(source) or 0)
    new, batch = 0, list[HistoryEvent]()
    for last, events in events_after(journal, source, known):
        batch += events
        if len(batch) >= BATCH:
            new += store.add(batch, source=source, position=last)
            batch = []
    if last > known:
        new += store.add(batch, source=source, position=last)
        store.remove_older(datetime.now(UTC))
    if last < end:  # damaged: what comes after the damage is not readable
        with exclusive(journal.file):
            journal.renew(read_bytes(journal.file), datetime.now(UTC))
        new += collect(store, file)
    return new


def settled(file: Path) -> tuple[Journal, str, int]:
    """Return the journal of a file, complete up to this moment, the name of its checkout as a source of
    events, and the number of its last entry. Raises CoordinationError, EditConflict.
    """
    path = file.resolve()
    journal = Journal(path)
    try:
        with exclusive(path):
            end = journal.catch_up(read_bytes(path), datetime.now(UTC))
        return journal, f"journal:{journal.checkout()}", end
    except OSError as error:
        raise CoordinationError(
            f"the journal {journal.path} cannot be written: {error.strerror}", "make room and try again"
        ) from error


def events_after(journal: Journal, source: str, known: int) -> Iterator[tuple[int, list[HistoryEvent]]]:
    """Yield the number of each entry above `known`, with its events."""
    last = known
    texts: list[bytes] = []  # the last valid one of them is the text before the next entry
    for entry in journal.entries(known):
        if entry.seq > known:
            gap = [_gap(source, last, entry)] if last and entry.seq > last + 1 else []
            yield entry.seq, [*gap, *_events_of(source, entry, began=not last, texts=texts)]
            last = entry.seq
        texts = [entry.text] if entry.events else [*texts, entry.text]


def _gap(source: str, known: int, entry: Entry) -> HistoryEvent:
    return HistoryEvent(
        id=f"{source}:{entry.seq}.gap",
        at=entry.at,
        kind="history.gap",
        title="entries of the journal were removed or damaged before they were read",
        data={"first": known + 1, "last": entry.seq - 1},
    )


def _events_of(source: str, entry: Entry, *, began: bool, texts: Sequence[bytes]) -> Iterator[HistoryEvent]:
    """Yield the events of an entry. The last valid one of `texts` is the file before the entry."""
    if entry.events:
        for number, event in enumerate(entry.events):
            yield _record_event(f"{source}:{entry.seq}.{number}", entry, event)
        return
    after = _ecosystem(entry.text)
    before = next((known for text in reversed(texts) if (known := _ecosystem(text)) is not None), None)
    events = []
    if after is not None and (began or before is not None):
        events = differences(before or Ecosystem(), after)
    yield HistoryEvent(
        id=f"{source}:{entry.seq}",
        at=entry.at,
        kind="file.recorded" if began else "file.changed",
        actor=entry.actor or "file",
        title=_title(began, after is not None),
        repos=tuple(sorted({repo for event in events for repo in event["repos"]}))[:MOST_REPOS],
        data={
            "commit": entry.commit,
            "valid": after is not None,
            "counts": dict(Counter(event["kind"] for event in events)),
            "subjects": [event["subject"] for event in events[:MOST_IDS]],
        },
        parts=tuple(_record_event("", entry, _existing(event) if began else event) for event in events),
    )


def _title(began: bool, valid: bool) -> str:
    changed = "the file was changed by another program" if valid else "another program made the file invalid"
    return "the history begins" if began else changed


def _existing(event: dict[str, Any]) -> dict[str, Any]:
    noun, status = event["kind"].partition(".")[0], event["record"].get("status")
    return {**event, "kind": f"{noun}.{'existing' if status in OPEN else 'ended'}"}


def _record_event(id_: str, entry: Entry, event: Any) -> HistoryEvent:
    return HistoryEvent(
        id=id_,
        at=entry.at,
        actor=entry.actor,
        kind=str(event.get("kind", "file.changed")),
        subject=str(event.get("subject", "")),
        title=str(event.get("title", "")),
        repos=tuple(str(repo) for repo in event.get("repos", ())),
        changes=dict(event.get("changes", {})),
        record=dict(event.get("record", {})),
        data=_remarks(event.get("data")) | ({"run": entry.cause} if entry.cause else {}),
    )


def _remarks(found: object) -> dict[str, Any]:
    """Return the reason of a forced completion, and what it was forced over."""
    fields = found if isinstance(found, Mapping) else {}
    reason, over = fields.get("reason"), fields.get("forced_over")
    if not isinstance(reason, str):
        return {}
    return {"reason": reason, "forced_over": [str(words) for words in over] if isinstance(over, list) else []}


@lru_cache(maxsize=2)  # a text is the one after a change, then the one before the next
def _ecosystem(text: bytes) -> Ecosystem | None:
    with suppress(InvalidFile):
        return parse(text, Path("ecosystem.yaml")).document.ecosystem
    return None


READ = 1000
"""Events of the stream that are read at once."""
REPLAYED = timedelta(hours=1)
"""How long events stay in the stream after the history has stored them, for readers that reconnect."""
WHOLE = "event"
"""Field with the whole event as JSON, for an event that a worker took from its machine's journal."""
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
        batch = source.stream.read(position, READ)
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


def _row(event: HistoryEvent) -> ForwardedEvent:
    whole = event.model_dump_json(exclude={"matched"}, exclude_defaults=True)
    if event.parts:
        parts = ",".join(part.model_dump_json(exclude_defaults=True) for part in event.parts)
        if len(whole) + len(parts) < LONGEST_EVENT:
            whole = f'{whole[:-1]},"parts":[{parts}]}}'
    return (event.kind, event.subject, event.actor, " ".join(event.repos), event.title, whole)
