"""Copies of cached values in a folder, which survive a loss of Redis' data, and the leading worker's periodic
job.

`<namespace>.index` has a line of JSON for each entry, `<namespace>.values/` a file for each distinct value,
named by its SHA-256. A round writes new values, then the whole index, then removes files that the index does
not name. Contexts of runs are not stored, because a Redis that lost its data has lost the runs as well.

A Redis without the fact `restored` gets the folder's entries, without overwriting newer ones; an interrupted
restore is repeated. So a deleted value reappears only if Redis loses its data before the next round.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from redis import Redis

from coordination.cache.entries import Entries, ScannedEntry, Walk
from coordination.cache.names import Limits, Scope, scope_of
from coordination.durations import MS
from coordination.errors import CoordinationError
from coordination.files import make_private, remove_unfinished, replace_file
from coordination.settings import Settings

PASSING = (Scope.RUN, Scope.TODO)
FACTS = ("restored", "writes", "bytes")


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True)

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
            restored, *state = self._entries.line.send("HMGET", self._entries.keys.facts, *FACTS)
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
        self._entries.line.send("HSET", self._entries.keys.facts, "restored", 1)
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
