"""Reads the journal of a file into the history, each entry once.

An edit by coord becomes one event for each record. A change by somebody else becomes one `file.changed` with
counts, the first ids and the commit, whatever its size; the figures of trends count its records one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from coordination.ecosystem.document import read_bytes
from coordination.ecosystem.editing import exclusive
from coordination.ecosystem.journal import Entry, Journal
from coordination.ecosystem.parsing import parse
from coordination.ecosystem.record_events import differences
from coordination.errors import CoordinationError, InvalidFile
from coordination.history.events import OPEN, HistoryEvent
from coordination.history.store import HistoryStore
from coordination.models import Ecosystem

BATCH = 500
"""Entries in a transaction."""
MOST_IDS = 50


def collect(store: HistoryStore, file: Path) -> int:
    """Keep what happened to the file since the last time; return the number of new events.

    Raises CoordinationError, EditConflict.
    """
    path = file.resolve()
    journal = Journal(path)
    try:
        with exclusive(path):
            text, now = read_bytes(path), datetime.now(UTC)
            end = journal.settle(text, now)
        source = f"journal:{journal.checkout()}"
    except OSError as error:
        raise CoordinationError(
            f"the journal {journal.path} cannot be written: {error.strerror}", "make room and try again"
        ) from error
    known = int(store.position(source) or 0)
    new, batch, last = 0, list[HistoryEvent](), known
    valid: bytes | None = None
    for entry in journal.entries():
        if entry.seq > known:
            if last and entry.seq > last + 1:
                batch.append(_gap(source, last, entry))
            batch += _events_of(source, entry, began=not last, valid=valid)
            last = entry.seq
            if len(batch) >= BATCH:
                new += store.add(batch, source=source, position=last)
                batch = []
        if entry.events or _ecosystem(entry.text) is not None:
            valid = entry.text
    if last > known:
        new += store.add(batch, source=source, position=last)
        store.remove_older(datetime.now(UTC))
    if last < end:  # damaged: what comes after the damage is not readable
        with exclusive(path):
            journal.renew(read_bytes(path), datetime.now(UTC))
        new += collect(store, file)
    return new


def _gap(source: str, known: int, entry: Entry) -> HistoryEvent:
    return HistoryEvent(
        id=f"{source}:{entry.seq}.gap",
        at=entry.at,
        kind="history.gap",
        title="entries of the journal were removed or damaged before they were read",
        data={"first": known + 1, "last": entry.seq - 1},
    )


def _events_of(source: str, entry: Entry, *, began: bool, valid: bytes | None) -> Iterator[HistoryEvent]:
    """Yield the events of an entry. `valid` is the last valid text before it, if that is known."""
    if entry.events:
        for number, event in enumerate(entry.events):
            yield _record_event(f"{source}:{entry.seq}.{number}", entry, event)
        return
    after = _ecosystem(entry.text)
    before = _ecosystem(valid) if valid is not None else None
    found = []
    if after is not None and (began or before is not None):
        found = differences(before or Ecosystem(), after)
    yield HistoryEvent(
        id=f"{source}:{entry.seq}",
        at=entry.at,
        kind="file.recorded" if began else "file.changed",
        actor=entry.actor or "file",
        title=_title(began, after is not None),
        repos=tuple(sorted({repo for event in found for repo in event["repos"]}))[:MOST_IDS],
        data={
            "commit": entry.commit,
            "valid": after is not None,
            "counts": dict(Counter(event["kind"] for event in found)),
            "subjects": [event["subject"] for event in found[:MOST_IDS]],
        },
        parts=tuple(_record_event("", entry, _existing(event) if began else event) for event in found),
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
        data={"run": entry.cause} if entry.cause else {},
    )


@lru_cache(maxsize=2)  # a text is the one after a change, then the one before the next
def _ecosystem(text: bytes) -> Ecosystem | None:
    with suppress(InvalidFile):
        return parse(text, Path("ecosystem.yaml")).document.ecosystem
    return None
