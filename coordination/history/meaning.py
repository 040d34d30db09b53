"""Search by meaning: vectors of a user's embedding command, joined with the search by words.

The command reads texts as JSON strings, one on each line, and answers each with a JSON array of numbers on a
line. Vectors are kept in the database. The query's vector is compared with those of the newest events that
pass the filters. Both lists are joined by reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009).
"""

from __future__ import annotations

import hashlib
import json
import math
from array import array
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from operator import mul
from typing import TypeAlias

from coordination.errors import CoordinationError
from coordination.history.events import HistoryEvent
from coordination.history.store import HistoryStore, event_of
from coordination.models import Command, argv_of
from coordination.user_program import Failed, ask

COMPARED = 10_000
"""Newest events that a query is compared with: about 0.3 s with 384 dimensions."""
AT_ONCE = 500
"""Texts that the command gets at once."""
EMBEDDED = 2000
"""Events that one search adds vectors of, the newest first; the next search continues."""
LIMIT = timedelta(seconds=60)
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
    def __init__(self, command: Command, limit: timedelta = LIMIT) -> None:
        self._command, self._limit = command, limit
        self.model = hashlib.sha256(json.dumps(argv_of(command)).encode()).hexdigest()[:16]
        """Name under which vectors are kept: those of another command cannot be compared."""

    def vectors(self, texts: Sequence[str]) -> list[Vector]:
        """Return a vector of length 1 for each text. Raises EmbeddingFailed."""
        lines = "".join(json.dumps(text[:_LONGEST_TEXT]) + "\n" for text in texts)
        found = [_vector(line) for line in self._answer(lines, len(texts)).splitlines() if line.strip()]
        if len(found) != len(texts) or len({len(vector) for vector in found}) > 1:
            raise EmbeddingFailed(
                f"it answered {len(texts)} texts with {len(found)} vectors, or of several lengths"
            )
        return found

    def _answer(self, lines: str, texts: int) -> str:
        try:
            answer = ask(
                self._command,
                lines.encode(),
                timeout_s=self._limit.total_seconds(),
                most_output=texts * LONGEST_VECTOR,
            )
        except Failed as error:
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
    found = []
    for cosine, seq in cosines[:limit]:
        if cosine >= SMALLEST:
            (row,) = store.rows("SELECT * FROM events WHERE seq = ?", seq)
            found.append(event_of(row).model_copy(update={"matched": f"similar in meaning ({cosine:.2f})"}))
    return found


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
