"""Export and import of all contexts as lines of JSON: a header, then a line for each entry.

`{"coord_context": 1, "namespace": "coord"}` `{"context": "run/3f…", "key": "version", "value": "1.2",
"left_s": 3417.2}`, or `"hides": true` for a tombstone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, TextIO

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from coordination.cache.entries import Entries, ScannedEntry, Walk
from coordination.cache.names import LONGEST_TTL, STORE, check_contexts, check_key, check_value, scope_of
from coordination.durations import MS
from coordination.errors import CoordinationError, UsageError
from coordination.files import replacing

FORMAT = 1
BATCH = 200


class Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    context: str
    key: str
    value: JsonValue = None
    hides: bool = False
    left_s: Annotated[float, Field(gt=0, le=LONGEST_TTL.total_seconds())]


def export(entries: Entries, namespace: str, file: Path) -> int:
    """Replace the file atomically; return the number of entries. Each entry is as it was when it was read."""
    try:
        with replacing(file, durable=True) as out:
            out.write(json.dumps({"coord_context": FORMAT, "namespace": namespace}).encode() + b"\n")
            count = sum(1 for line in _lines(entries) if out.write(line.encode() + b"\n"))
    except OSError as error:
        raise CoordinationError(f"{file} cannot be written: {error.strerror}", "name another file") from error
    return count


def restore(entries: Entries, file: Path, *, only_new: bool = False) -> int:
    """Import a file after validating all of it; return the number of stored entries. Raises UsageError with
    the line.

    Existing entries are overwritten, or kept with `only_new`.
    """
    for _ in _validated(entries, file):
        pass
    return sum(_put(entries, line, only_new=only_new) for line in _validated(entries, file))


def _lines(entries: Entries) -> Iterator[str]:
    walk = Walk(entries)
    for context in walk.contexts():
        if scope_of(context) != STORE:
            yield from _of_context(walk, context)


def _of_context(walk: Walk, context: str) -> Iterator[str]:
    batch: list[ScannedEntry] = []
    for entry in chain(walk.entries(context), [None]):
        if entry is not None:
            batch.append(entry)
        if entry is None or len(batch) >= BATCH:
            yield from _with_values(walk, batch)
            batch = []


def _with_values(walk: Walk, batch: list[ScannedEntry]) -> Iterator[str]:
    by_digest: dict[str, list[ScannedEntry]] = {}
    for entry in batch:
        if entry.hides:
            yield _line(entry, {"hides": True})
        else:
            by_digest.setdefault(entry.digest, []).append(entry)
    for values in walk.values(same[0] for same in by_digest.values()):
        for digest, value in values.items():
            yield from (_line(entry, {"value": json.loads(value)}) for entry in by_digest[digest])


def _line(entry: ScannedEntry, what: dict[str, Any]) -> str:
    left_s = entry.left.total_seconds()
    return json.dumps(
        {"context": entry.context, "key": entry.key, **what, "left_s": left_s}, separators=(",", ":")
    )


def _put(entries: Entries, line: Line, *, only_new: bool) -> bool:
    left = max(MS, timedelta(seconds=line.left_s))
    if line.hides:
        return entries.hide(line.context, line.key, left, only_new=only_new)
    return entries.put(line.context, line.key, packed(line.value), left, only_new=only_new) is not None


def packed(value: Any) -> bytes:
    """Return a value as JSON. Raises UsageError."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"the value cannot be represented in JSON: {error}", "use numbers, text, lists and objects"
        ) from error


def _validated(entries: Entries, file: Path) -> Iterator[Line]:
    try:
        with file.open(encoding="utf-8") as text:
            _check_head(file, text)
            for number, words in enumerate(text, 2):
                yield _read(entries, f"{file}:{number}", words)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(
            f"{file} cannot be read: {why}", "name a file written by: coord context export"
        ) from error


def _check_head(file: Path, text: TextIO) -> None:
    try:
        head = json.loads(text.readline())
    except (ValueError, RecursionError):
        head = None
    found = head.get("coord_context") if isinstance(head, dict) else None
    if found != FORMAT:
        what = "is not an export of contexts" if found is None else f"has another version: {found}"
        raise UsageError(f"{file} {what}", "name a file written by: coord context export")


def _read(entries: Entries, where: str, words: str) -> Line:
    try:
        line = Line.model_validate_json(words)
        check_contexts((line.context,))
        check_key(line.key)
        check_value(packed(line.value), entries.limits.value_bytes)
        if scope_of(line.context) == STORE:
            raise UsageError(f"{line.context!r} is not a context of the tree")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(
            f"{where}: {place}: {first['msg']}", "nothing was imported; correct the line"
        ) from error
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}", "nothing was imported; correct the line") from error
    return line
