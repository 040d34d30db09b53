"""Copies of the cache outside Redis: exports, and a folder that survives a loss of Redis' data.

**Export.** Lines of JSON: a header, then a line for each entry:
`{"coord_context": 1, "namespace": "coord"}`
`{"context": "run/3f…", "key": "version", "value": "1.2", "left_s": 3417.2}`, or `"hides": true` for a
tombstone.

**Folder.** `<namespace>.index` has a line of JSON for each entry, `<namespace>.values/` a file for each
distinct value, named by its SHA-256. Each round of the leading worker writes new values, then the whole
index, then removes files that the index does not name. Contexts of runs are not stored, because a Redis that
lost its data has lost the runs as well. A Redis without the fact `restored` gets the folder's entries,
without overwriting newer ones; an interrupted restore is repeated. So a deleted value reappears only if Redis
loses its data before the next round.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, TextIO

from pydantic import ConfigDict, Field, JsonValue, ValidationError
from redis import Redis

from coordination.cache.entries import Entries, ScannedEntry, Walk
from coordination.cache.names import (
    LONGEST_TTL,
    STORE,
    Limits,
    Scope,
    check_contexts,
    check_key,
    check_value,
    packed,
    scope_of,
)
from coordination.durations import MS
from coordination.errors import CoordinationError, UsageError
from coordination.files import make_private, remove_unfinished, replace_file, replacing
from coordination.frozen import FrozenModel
from coordination.settings import Settings

FORMAT = 1
BATCH = 200


class Line(FrozenModel):
    model_config = ConfigDict(extra="forbid")

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


PASSING = (Scope.RUN, Scope.TODO)
FACTS = ("restored", "writes", "bytes")


class _Row(FrozenModel):
    context: str
    key: str
    digest: str
    size: int
    left_s: float
    saved_at: float


class Disk:
    """The folder, used by one thread of the leading process. Raises CoordinationError if the folder cannot be
    used.
    """

    def __init__(self, entries: Entries, namespace: str, folder: Path) -> None:
        self._entries = entries
        self._walk = Walk(entries)
        self._index = folder / f"{namespace}.index"
        self._values = folder / f"{namespace}.values"
        self._saved: object = None

    def run_once(self) -> int:
        """Restore entries if Redis has lost its data, then write changes; return the number of restored
        entries.
        """
        try:
            restored, *state = self._entries.connection.send("HMGET", self._entries.keys.facts, *FACTS)
            back = 0 if restored else self._restore()
            if restored is None or state != self._saved:
                self._save()
                self._saved = state if restored else None
        except OSError as error:
            raise CoordinationError(
                f"cache_folder: {error.filename} cannot be used: {error.strerror}",
                "make room there, or configure another folder",
            ) from error
        return back

    def _restore(self) -> int:
        back = sum(self._restore_entry(row) for row in self._rows())
        self._entries.connection.send("HSET", self._entries.keys.facts, "restored", 1)
        return back

    def _restore_entry(self, row: _Row) -> bool:
        left = timedelta(seconds=row.left_s - max(0.0, time.time() - row.saved_at))
        value = self._read(row.digest)
        if left < MS or value is None or len(value) > self._entries.limits.value_bytes:
            return False
        return self._entries.put(row.context, row.key, value, left, only_new=True) is not None

    def _rows(self) -> Iterator[_Row]:
        """Yield the index; a damaged line counts as evicted."""
        if not self._index.exists():
            return
        with self._index.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                with suppress(ValidationError):
                    yield _Row.model_validate_json(line)

    def _save(self) -> None:
        make_private(self._values)
        there = {file.name for file in self._values.iterdir()}
        entries = [
            one
            for context in self._walk.contexts()
            if scope_of(context) not in PASSING
            for one in self._of(context)
        ]
        for values in self._walk.values(one for one in entries if one.digest not in there):
            self._write(values)
        named = {one.digest for one in entries}
        remove_unfinished(self._index)
        replace_file(self._index, "".join(map(_row, entries)).encode(), durable=True)
        for name in there - named:
            (self._values / name).unlink(missing_ok=True)

    def _of(self, context: str) -> Iterator[ScannedEntry]:
        return (one for one in self._walk.entries(context) if not one.hides)

    def _write(self, values: Mapping[str, bytes]) -> None:
        for digest, value in values.items():
            replace_file(self._values / digest, value, durable=True)

    def _read(self, digest: str) -> bytes | None:
        try:
            value = (self._values / Path(digest).name).read_bytes()
        except FileNotFoundError:
            return None
        return value if sha256(value).hexdigest() == digest else None


def _row(entry: ScannedEntry) -> str:
    row = {"context": entry.context, "key": entry.key, "digest": entry.digest, "size": entry.size}
    return json.dumps({**row, "left_s": entry.left.total_seconds(), "saved_at": time.time()}) + "\n"


@dataclass(frozen=True, kw_only=True)
class TidyReport:
    expired: int
    restored: int
    """Entries restored from disk after Redis had lost its data."""


class CacheMaintenance:
    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._entries = Entries(redis, settings.namespace, Limits.of(settings))
        folder = settings.cache_folder
        self._disk = Disk(self._entries, settings.namespace, Path(folder)) if folder else None

    def run_once(self) -> TidyReport:
        """Remove expired entries and update the folder. Raises CoordinationError."""
        expired = self._entries.expire()
        return TidyReport(expired=expired, restored=self._disk.run_once() if self._disk else 0)
