"""Reads the journal of a file into the history, each entry once.

An edit by coord becomes one event for each record. A change by somebody else becomes one `file.changed` with
counts, the first ids and the commit, whatever its size; the figures of trends count its records one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
MOST_IDS, MOST_REPOS = 50, 5000


def collect(store: HistoryStore, file: Path) -> int:
    """Keep what happened to the file since the last time; return the number of new events.

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
            end = journal.settle(read_bytes(path), datetime.now(UTC))
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
    """Yield the events of an entry. The last valid one of the texts is that before it."""
    if entry.events:
        for number, event in enumerate(entry.events):
            yield _record_event(f"{source}:{entry.seq}.{number}", entry, event)
        return
    after = _ecosystem(entry.text)
    before = next((known for text in reversed(texts) if (known := _ecosystem(text)) is not None), None)
    found = []
    if after is not None and (began or before is not None):
        found = differences(before or Ecosystem(), after)
    yield HistoryEvent(
        id=f"{source}:{entry.seq}",
        at=entry.at,
        kind="file.recorded" if began else "file.changed",
        actor=entry.actor or "file",
        title=_title(began, after is not None),
        repos=tuple(sorted({repo for event in found for repo in event["repos"]}))[:MOST_REPOS],
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
