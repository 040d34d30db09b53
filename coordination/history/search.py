"""Search of the history by words, ranked, and by filters.

Ranking is BM25 of SQLite's FTS5 (Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009) with a
weight for each column. A word also matches its synonyms and other words with the same stem. Every word of the
query must match; if no event has all of them, any of them is enough. What the user types is quoted, so it is
never read as FTS5's own syntax.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from coordination.errors import NotFound, UsageError
from coordination.events.kinds import KINDS
from coordination.history.events import HistoryEvent
from coordination.history.meaning import Embedder, joined, similar
from coordination.history.store import HistoryStore, event_of
from coordination.setting_types import SYNONYMS
from coordination.text import did_you_mean

WEIGHTS = (8.0, 4.0, 1.0, 2.0)
"""Weights of subject, title, other words and actor."""
MOST_WORDS = 32
LIMIT = 20
ENTITIES = frozenset(kind.partition(".")[0] for kind in KINDS)
HISTORY_KINDS = frozenset(KINDS)
LABELS = {"entity": "type", "kind": "kind", "repo": "repository"}
MOST = 10_000


@dataclass(frozen=True, kw_only=True)
class HistoryFilters:
    """Conditions that an event must meet; `kind` is a name or a pattern such as `todo.*`."""

    subject: str | None = None
    entity: str | None = None
    repo: str | None = None
    kind: str | None = None
    actor: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def search(
    store: HistoryStore,
    query: str = "",
    filters: HistoryFilters = HistoryFilters(),
    *,
    limit: int = LIMIT,
    synonyms: Collection[str] = SYNONYMS,
    embedder: Embedder | None = None,
) -> list[HistoryEvent]:
    """Return the best matches, or without a query the latest events. `synonyms` are groups of words that mean
    the same, with spaces between them. Raises UsageError, NotFound; CoordinationError of the embedder.
    """
    if not 1 <= limit <= MOST:
        raise UsageError(f"{limit} events cannot be listed", f"choose a limit from 1 to {MOST}")
    check_known(store, filters)
    words = re.findall(r"\w[\w.-]*", query, re.UNICODE)[:MOST_WORDS]
    if query.strip() and not words:
        return []
    if not words:
        return _latest(store, filters, limit)
    terms = [_term(word, synonyms) for word in words]
    found = _ranked(store, " AND ".join(terms), filters, limit) or (
        _ranked(store, " OR ".join(terms), filters, limit) if len(terms) > 1 else []
    )
    if embedder is None:
        return found
    return joined(found, similar(store, embedder, query, *_where(filters), limit), limit=limit)


def check_known(store: HistoryStore, filters: HistoryFilters) -> None:
    """Refuse an entity, kind or repository that no event has: it is mistyped."""
    for name, column, table in (
        ("entity", "entity", "events"),
        ("kind", "kind", "events"),
        ("repo", "repo", "event_repos"),
    ):
        asked = getattr(filters, name)
        if asked is None or "*" in asked:
            continue
        if store.rows(f"SELECT 1 FROM {table} WHERE {column} = ? LIMIT 1", asked):  # noqa: S608 (our names)
            continue
        if (name == "entity" and asked in ENTITIES) or (name == "kind" and asked in HISTORY_KINDS):
            continue
        known = [row[0] for row in store.rows(f"SELECT DISTINCT {column} FROM {table} LIMIT 1000")]  # noqa: S608
        if known:
            said = ", ".join(sorted(known)[:20])
            raise NotFound(
                f"no event has the {LABELS[name]} {asked!r}{did_you_mean(asked, known)}", f"there are: {said}"
            )


def _term(word: str, synonyms: Collection[str]) -> str:
    groups = (group.lower().split() for group in synonyms)
    alike = {word}.union(*(group for group in groups if word.lower() in group))
    quoted = ['"{}"'.format(one.replace('"', '""')) for one in sorted(alike)]
    return f"({' OR '.join(quoted)})"


def _ranked(store: HistoryStore, match: str, filters: HistoryFilters, limit: int) -> list[HistoryEvent]:
    """Return the best matches. The table of events is joined only for a filter, and read for the best alone:
    for a word that thousands of events have, that takes a third off the time.
    """
    where, values = _where(filters)
    joined_events = "JOIN events ON events.seq = word_index.rowid" if where else ""
    weights = ", ".join(map(str, WEIGHTS))
    best = store.rows(
        "SELECT word_index.rowid AS seq, snippet(word_index, -1, '[', ']', '…', 12) AS matched "  # noqa: S608
        f"FROM word_index {joined_events} WHERE word_index MATCH ?{where} "
        f"ORDER BY bm25(word_index, {weights}), word_index.rowid DESC LIMIT ?",
        match,
        *values,
        limit,
    )
    places = ", ".join("?" * len(best))
    found = store.rows(f"SELECT * FROM events WHERE seq IN ({places})", *(row["seq"] for row in best))  # noqa: S608
    events = {row["seq"]: event_of(row) for row in found}
    return [
        events[row["seq"]].model_copy(update={"matched": row["matched"]})
        for row in best
        if row["seq"] in events
    ]


def _latest(store: HistoryStore, filters: HistoryFilters, limit: int) -> list[HistoryEvent]:
    where, values = _where(filters)
    found = store.rows(
        f"SELECT * FROM events WHERE 1{where} ORDER BY at DESC, seq DESC LIMIT ?",  # noqa: S608
        *values,
        limit,
    )
    return [event_of(row) for row in found]


def _where(filters: HistoryFilters) -> tuple[str, list[object]]:
    """Return the conditions, each behind AND, and their values."""
    conditions: list[tuple[str, object]] = [
        ("events.seq IN (SELECT s.seq FROM event_subjects s WHERE s.subject = ?)", filters.subject),
        ("entity = ?", filters.entity),
        ("EXISTS (SELECT 1 FROM event_repos r WHERE r.repo = ? AND r.seq = events.seq)", filters.repo),
        ("kind GLOB ?", filters.kind),
        ("actor = ?", filters.actor),
        ("at >= ?", filters.since and int(filters.since.timestamp() * 1000)),
        ("at < ?", filters.until and int(filters.until.timestamp() * 1000)),
    ]
    where, values = "", list[object]()
    for condition, value in conditions:
        if value is not None:
            where += f" AND {condition}"
            values.append(value)
    return where, values
