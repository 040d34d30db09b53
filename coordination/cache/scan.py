"""Paged iteration over contexts and entries, which never reads a whole context, or the keyspace, at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from coordination.backend.client import BULK_S
from coordination.cache.entries import Entries
from coordination.durations import MS

PAGE = 500
VALUES_AT_ONCE = 4 * 1024 * 1024
HIDES = "-"
CLOCK_MS = 5000
"""Tolerance as in backend/lua/cache/_cache.lua: an entry with more time left than its ttl plus this was
written before the clock was set back.
"""


@dataclass(frozen=True, slots=True)
class ScannedEntry:
    """An entry without its value."""

    context: str
    key: str
    digest: str
    size: int
    left: timedelta

    @property
    def hides(self) -> bool:
        """Return whether the entry is a tombstone, which hides values of outer contexts."""
        return self.digest == HIDES


class Walk:
    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self._line = entries.line
        self._keys = entries.keys

    def contexts(self) -> Iterator[str]:
        last = ""
        while page := self._line.send(
            "ZRANGEBYLEX", self._keys.contexts, f"({last}" if last else "-", "+", "LIMIT", 0, PAGE
        ):
            yield from (name.decode() for name in page)
            last = page[-1].decode()

    def entries(self, context: str) -> Iterator[ScannedEntry]:
        """Yield entries, each once; entries that are added or removed meanwhile may or may
        not be included.
        """
        seen, cursor, first = set[str](), b"0", True
        while first or cursor != b"0":
            first = False
            now_ms = self._now_ms()
            cursor, page = self._line.send("HSCAN", self._keys.entries(context), cursor, "COUNT", PAGE)
            for key, record in zip(page[::2], page[1::2], strict=True):
                entry = _scanned(context, key.decode(), record.decode(), now_ms)
                if entry.left > timedelta(0) and entry.key not in seen:
                    seen.add(entry.key)
                    yield entry

    def values(self, wanted: Iterable[ScannedEntry]) -> Iterator[Mapping[str, bytes]]:
        """Yield values by digest in batches of limited size; values removed in the meantime are omitted."""
        batch: dict[str, int] = {}
        for entry in wanted:
            batch[entry.digest] = entry.size
            if sum(batch.values()) >= VALUES_AT_ONCE or len(batch) >= PAGE:
                yield self._read(batch)
                batch = {}
        if batch:
            yield self._read(batch)

    def _read(self, digests: Mapping[str, int]) -> Mapping[str, bytes]:
        found = self._line.send("HMGET", self._keys.values, *digests, patience_s=BULK_S)
        return {digest: value for digest, value in zip(digests, found, strict=True) if value is not None}

    def _now_ms(self) -> int:
        seconds, micros = self._line.send("TIME")
        return int(seconds) * 1000 + int(micros) // 1000


def _scanned(context: str, key: str, record: str, now_ms: int) -> ScannedEntry:
    digest, size, expires, ttl = record.split()
    left_ms = int(expires) - now_ms
    return ScannedEntry(
        context, key, digest, int(size), (left_ms if left_ms <= int(ttl) + CLOCK_MS else 0) * MS
    )
