"""Search of the history by words, ranked, by filters, and by meaning: vectors of a user's embedding command.

Ranking is BM25 of SQLite's FTS5 (Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009) with a
weight for each column. A word also matches its synonyms and other words with the same stem. Every word of the
query must match; if no event has all of them, any of them is enough. What the user types is quoted, so it is
never read as FTS5's own syntax.

The command reads texts as JSON strings, one on each line, and answers each with a JSON array of numbers on a
line. Vectors are kept in the database. The query's vector is compared with those of the newest events that
pass the filters. Both lists are joined by reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from array import array
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import mul
from typing import Annotated, TypeAlias

from coordination.declared import Option
from coordination.errors import CoordinationError, NotFound, UsageError
from coordination.events.kinds import KINDS
from coordination.events.records import EVENTS_OF_REPO
from coordination.history.events import HistoryEvent
from coordination.history.store import HistoryStore, event_of
from coordination.models import Command, argv_of
from coordination.setting_types import SYNONYMS
from coordination.text import did_you_mean
from coordination.user_program import NoAnswer, ask

COMPARED = 10_000
"""Newest events that a query is compared with: about 0.3 s with 384 dimensions."""
AT_ONCE = 500
"""Texts that the command gets at once."""
EMBEDDED = 2000
"""Number of events for which one search adds vectors, the newest first; the next search continues."""
EMBEDDING_TIME = timedelta(seconds=60)
SMALLEST = 0.3
"""Cosine from which an event counts as similar."""
_RANK_OFFSET = 60
_LONGEST_TEXT = 2000
_MOST_DIMENSIONS = 8192
LONGEST_VECTOR = 32 * _MOST_DIMENSIONS
"""Bytes of an answer to one text: a command that writes more is killed."""

Vector: TypeAlias = "array[float]"


class EmbeddingFailed(CoordinationError):
    """The embedding command failed."""

    def __init__(self, why: str) -> None:
        super().__init__(f"embed_command failed: {why}", "correct COORD_EMBED_COMMAND, or unset it")


class Embedder:
    def __init__(self, command: Command, limit: timedelta = EMBEDDING_TIME) -> None:
        self._command, self._limit = command, limit
        self.model = hashlib.sha256(json.dumps(argv_of(command)).encode()).hexdigest()[:16]
        """Name under which vectors are kept: those of another command cannot be compared."""

    def vectors(self, texts: Sequence[str]) -> list[Vector]:
        """Return a vector of length 1 for each text. Raises EmbeddingFailed."""
        lines = "".join(json.dumps(text[:_LONGEST_TEXT]) + "\n" for text in texts)
        vectors = [_vector(line) for line in self._answer(lines, len(texts)).splitlines() if line.strip()]
        if len(vectors) != len(texts) or len({len(vector) for vector in vectors}) > 1:
            raise EmbeddingFailed(
                f"it answered {len(texts)} texts with {len(vectors)} vectors, or of several lengths"
            )
        return vectors

    def _answer(self, lines: str, texts: int) -> str:
        try:
            answer = ask(
                self._command,
                lines.encode(),
                timeout_s=self._limit.total_seconds(),
                output_limit_bytes=texts * LONGEST_VECTOR,
            )
        except NoAnswer as error:
            raise EmbeddingFailed(str(error)) from error
        return answer.decode(errors="replace")


def _vector(line: str) -> Vector:
    if len(line) > LONGEST_VECTOR:
        raise EmbeddingFailed(f"a line of its answer has more than {LONGEST_VECTOR:,} characters")
    try:
        vector = array("f", json.loads(line))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise EmbeddingFailed(f"a line of its answer is no array of numbers: {line[:100]!r}") from error
    length = math.sqrt(sum(map(mul, vector, vector)))
    if not 0 < len(vector) <= _MOST_DIMENSIONS or not 0 < length < math.inf:
        raise EmbeddingFailed(f"it answered with a vector of {len(vector)} numbers and length {length:g}")
    return array("f", (value / length for value in vector))


def similar(
    store: HistoryStore, embedder: Embedder, query: str, where: str, values: Sequence[object], limit: int
) -> list[HistoryEvent]:
    """Return the events most similar to the query, of the newest that meet the condition. `matched` has their
    cosine. Raises EmbeddingFailed.
    """
    _add_missing(store, embedder, where, values)
    (asked,) = embedder.vectors([query])
    rows = store.rows(
        "SELECT v.seq, v.vector FROM events JOIN vectors v ON v.seq = events.seq "  # noqa: S608 (our names)
        f"WHERE v.model = ?{where} ORDER BY at DESC LIMIT {COMPARED}",
        embedder.model,
        *values,
    )
    cosines = sorted(((_cosine(asked, row["vector"]), row["seq"]) for row in rows), reverse=True)
    similar_events = []
    for cosine, seq in cosines[:limit]:
        if cosine >= SMALLEST:
            (row,) = store.rows("SELECT * FROM events WHERE seq = ?", seq)
            similar_events.append(
                event_of(row).model_copy(update={"matched": f"similar in meaning ({cosine:.2f})"})
            )
    return similar_events


def _add_missing(store: HistoryStore, embedder: Embedder, where: str, values: Sequence[object]) -> None:
    rows = store.rows(
        "SELECT events.seq, subject, title, words FROM events "  # noqa: S608 (our names)
        f"LEFT JOIN vectors v ON v.seq = events.seq AND v.model = ? WHERE v.seq IS NULL{where} "
        f"ORDER BY at DESC LIMIT {EMBEDDED}",
        embedder.model,
        *values,
    )
    for first in range(0, len(rows), AT_ONCE):
        batch = rows[first : first + AT_ONCE]
        vectors = embedder.vectors([f"{row['subject']} {row['title']} {row['words']}" for row in batch])
        pairs = zip(batch, vectors, strict=True)
        store.add_vectors(embedder.model, [(row["seq"], vector.tobytes()) for row, vector in pairs])


def _cosine(asked: Vector, stored: bytes) -> float:
    vector = array("f", stored)
    return sum(map(mul, asked, vector)) if len(vector) == len(asked) else 0.0


def joined(*rankings: Sequence[HistoryEvent], limit: int) -> list[HistoryEvent]:
    """Join lists by reciprocal rank fusion; an event keeps what matched in the first list that has it."""
    scores: defaultdict[str, float] = defaultdict(float)
    events: dict[str, HistoryEvent] = {}
    for ranking in rankings:
        for rank, event in enumerate(ranking, 1):
            scores[event.id] += 1 / (_RANK_OFFSET + rank)
            events.setdefault(event.id, event)
    return sorted(events.values(), key=lambda event: -scores[event.id])[:limit]


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
    """Conditions that an event must meet."""

    subject: Annotated[
        str | None,
        Option(
            "The id of a record, such as TODO-001, whose events are listed; a milestone is PLAN-001/M1.",
            argument=True,
            metavar="[ID]",
            completes="subject_ids",
        ),
    ] = None
    entity: Annotated[
        str | None,
        Option(
            "Select this type of record: issue, todo, plan, milestone, dependency, repo or file.",
            flag="--type",
            completes="event_types",
        ),
    ] = None
    repo: Annotated[str | None, EVENTS_OF_REPO] = None
    kind: Annotated[
        str | None,
        Option(
            "Select a kind such as todo.completed, or a pattern such as 'issue.*'.", completes="event_kinds"
        ),
    ] = None
    actor: Annotated[
        str | None,
        Option("Select events by this person or program; `file`: by an editor or git.", metavar="USER@HOST"),
    ] = None
    since: Annotated[datetime | None, Option("Select events from this time on.", metavar="TIME")] = None
    until: Annotated[datetime | None, Option("Select events before this time.", metavar="TIME")] = None


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
    query_words = re.findall(r"\w[\w.-]*", query, re.UNICODE)[:MOST_WORDS]
    if query.strip() and not query_words:
        return []
    if not query_words:
        return _latest(store, filters, limit)
    terms = [_term(word, synonyms) for word in query_words]
    ranked = _ranked(store, " AND ".join(terms), filters, limit) or (
        _ranked(store, " OR ".join(terms), filters, limit) if len(terms) > 1 else []
    )
    if embedder is None:
        return ranked
    return joined(ranked, similar(store, embedder, query, *_where(filters), limit), limit=limit)


def check_known(store: HistoryStore, filters: HistoryFilters) -> None:
    """Refuse an entity, kind or repository that no event has: it is mistyped."""
    for name, column, table in (
        ("entity", "entity", "events"),
        ("kind", "kind", "events"),
        ("repo", "repo", "event_repos"),
    ):
        value = getattr(filters, name)
        if value is None or "*" in value:
            continue
        if store.rows(f"SELECT 1 FROM {table} WHERE {column} = ? LIMIT 1", value):  # noqa: S608 (our names)
            continue
        if (name == "entity" and value in ENTITIES) or (name == "kind" and value in HISTORY_KINDS):
            continue
        known = [row[0] for row in store.rows(f"SELECT DISTINCT {column} FROM {table} LIMIT 1000")]  # noqa: S608
        if known:
            examples = ", ".join(sorted(known)[:20])
            raise NotFound(
                f"no event has the {LABELS[name]} {value!r}{did_you_mean(value, known)}",
                f"there are: {examples}",
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
    rows = store.rows(f"SELECT * FROM events WHERE seq IN ({places})", *(row["seq"] for row in best))  # noqa: S608
    events = {row["seq"]: event_of(row) for row in rows}
    return [
        events[row["seq"]].model_copy(update={"matched": row["matched"]})
        for row in best
        if row["seq"] in events
    ]


def _latest(store: HistoryStore, filters: HistoryFilters, limit: int) -> list[HistoryEvent]:
    where, values = _where(filters)
    rows = store.rows(
        f"SELECT * FROM events WHERE 1{where} ORDER BY at DESC, seq DESC LIMIT ?",  # noqa: S608
        *values,
        limit,
    )
    return [event_of(row) for row in rows]


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


def completed_by_hand(store: HistoryStore, todos: Collection[str]) -> dict[str, bool]:
    """Return which of these todos an edit of the file has completed last that wrote no results of a run →
    whether they had been open again before. Raises CoordinationError.
    """
    found = dict[str, bool]()
    other = set[str]()
    for row in store.rows(
        "SELECT e.* FROM event_subjects s JOIN events e ON e.seq = s.seq "
        "WHERE s.subject IN (SELECT value FROM json_each(?)) "
        "AND e.kind IN ('todo.created', 'todo.completed', 'todo.reopened') ORDER BY e.at DESC, e.seq DESC",
        json.dumps(list(todos)),
    ):
        event = event_of(row)
        if event.kind == "todo.reopened":
            if event.subject in found:
                found[event.subject] = True
            else:
                other.add(event.subject)
        elif event.subject not in found and event.subject not in other:
            by_hand = event.kind == "todo.completed" or event.record.get("status") == "completed"
            if by_hand and "run" not in event.data:
                found[event.subject] = False
            else:
                other.add(event.subject)
    return found
