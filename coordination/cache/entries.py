"""Entries of the cache in Redis, single ones and in pages; stores of bytes for other packages.

Each call is one Lua step, or a few if much has to be evicted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import TypeVar

from redis import Redis

from coordination.backend.client import ANSWER_S, BULK_S
from coordination.backend.keys import CacheKeys, Keys
from coordination.backend.step_connection import StepCaller, StepConnection
from coordination.backend.steps import Step
from coordination.backend.steps import cache as steps
from coordination.cache.names import Chain, Limits, check_contexts, check_key, check_value, store
from coordination.durations import MS
from coordination.errors import CoordinationError

RESULTS = "results"
"""Name of the store for results of todos with `cache` (workers/attempt/result_cache.py)."""


class Store:
    """A named store of bytes. All stores and contexts share the size of the cache, and equal values are
    stored once.

    Raises UsageError for an invalid key or value, Unreachable.
    """

    def __init__(self, redis: Redis, namespace: str, name: str, limits: Limits | None = None) -> None:
        self._entries = Entries(redis, namespace, limits or Limits())
        self._contexts = check_contexts((store(name),))

    def put(self, key: str, value: bytes, ttl: timedelta | None = None) -> None:
        """Store a value. Also raises NoRoom."""
        self._entries.put(self._contexts[0], check_key(key), value, ttl)

    def get(self, key: str) -> bytes | None:
        """Return the value; None if it was never stored, has expired or was evicted. Counts as a use."""
        return self._entries.get(check_key(key), self._contexts).value

    def delete(self, key: str) -> bool:
        """Delete a value; return whether it existed."""
        gone, _ = self._entries.delete(self._contexts, [check_key(key)])
        return gone == 1

    def clear(self) -> None:
        """Delete all values of the store."""
        self._entries.drop(self._contexts)

    def close(self) -> None:
        self._entries.close()


R = TypeVar("R")
KEYS_AT_ONCE = 500
BYTES_A_SECOND = 1024 * 1024
"""Assumed speed of a slow connection, which extends the time limit for sending a value. Receiving has no such
limit.
"""


class NoRoom(CoordinationError):
    """The cache is full of entries that cannot be evicted."""


@dataclass(frozen=True, slots=True)
class Answer:
    value: bytes | None
    """None if no context has the key, or one of them hides it."""
    place: int
    """Index of the context that has the key or hides it; the last one on a miss."""
    left: timedelta
    """Time until it expires; 0 on a miss."""
    generations: tuple[int, ...]
    """Generation of each context at the time of the answer."""

    @property
    def found(self) -> bool:
        """Return whether a context has an entry for the key, including one that hides it."""
        return self.left > timedelta(0)


def drop(connection: StepCaller, keys: CacheKeys, contexts: Iterable[str]) -> None:
    """Delete everything in the contexts: the step handles a part and returns unfinished contexts."""
    left = list(contexts)
    while left:
        unfinished = connection(steps.Drop(contexts=left[:KEYS_AT_ONCE]), [keys.head])
        left = [*unfinished, *left[KEYS_AT_ONCE:]]


class Entries:
    """The Redis layer. Thread-safe. Raises Unreachable."""

    def __init__(self, redis: Redis, namespace: str, limits: Limits) -> None:
        self.connection = StepConnection(redis, decode=False)
        self.keys = Keys(namespace).cache
        self.limits = limits

    def get(self, key: str, contexts: Chain, local_hits: int = 0) -> Answer:
        found = self._call(
            steps.Get(key=key, policy=self.limits.eviction, local_hits=local_hits, contexts=contexts)
        )
        return Answer(
            value=found.value if found.word == "hit" else None,
            place=found.place - 1,
            left=found.left_ms * MS,
            generations=found.generations,
        )

    def put(
        self, context: str, key: str, value: bytes, ttl: timedelta | None = None, *, only_new: bool = False
    ) -> int | None:
        """Store a value and return the context's generation; with `only_new`, None if the key exists. Raises
        UsageError, NoRoom.
        """
        check_value(value, self.limits.value_bytes)
        limits = self.limits
        step = steps.Put(
            context=context, key=key, digest=sha256(value).hexdigest(), value=value,
            ttl_ms=limits.ttl_ms(ttl), policy=limits.eviction, max_bytes=limits.max_bytes,
            mode="new" if only_new else "",
        )  # fmt: skip
        patience_s = ANSWER_S + len(value) / BYTES_A_SECOND
        while (written := self._call(step, patience_s)).word == "more":
            pass
        if written.word == "none":
            raise NoRoom(
                f"the value of {len(value):,} bytes does not fit into the cache of {limits.max_bytes:,}",
                "keep a smaller one, or raise cache_max_bytes",
            )
        return written.generation if written.word == "kept" else None

    def delete(self, contexts: Chain, keys: Sequence[str], ttl: timedelta | None = None) -> tuple[int, int]:
        """Delete keys from the first context, and hide the values of outer ones for the ttl.

        Returns the number of keys that had a value, and the generation.
        """
        limits, gone, generation, start = self.limits, 0, 0, 0
        while start < len(keys):
            step = steps.Delete(
                ttl_ms=limits.ttl_ms(ttl), policy=limits.eviction, max_bytes=limits.max_bytes,
                contexts=contexts, keys=keys[start : start + KEYS_AT_ONCE],
            )  # fmt: skip
            deleted, generation, handled = self._call(step)
            gone, start = gone + deleted, start + handled
        return gone, generation

    def hide(self, context: str, key: str, ttl: timedelta, *, only_new: bool = False) -> bool:
        """Hide a key of outer contexts. Returns False if `only_new` is set and the key
        exists. Raises NoRoom.
        """
        limits = self.limits
        step = steps.Hide(
            context=context, key=key, ttl_ms=limits.ttl_ms(ttl), policy=limits.eviction,
            max_bytes=limits.max_bytes, mode="new" if only_new else "",
        )  # fmt: skip
        while (word := self._call(step)) == "more":
            pass
        if word == "none":
            raise NoRoom("there is no room to record a hidden key", "raise cache_max_bytes")
        return word == "kept"

    def drop(self, contexts: Iterable[str]) -> None:
        """Delete the contexts with all their entries."""
        drop(self.connection, self.keys, contexts)

    def expire(self) -> int:
        """Delete expired entries; return their number."""
        expired = 0
        while piece := self._call(steps.Expire(limit=KEYS_AT_ONCE)):
            expired += piece
        return expired

    def close(self) -> None:
        self.connection.close()

    def _call(self, step: Step[R], patience_s: float = ANSWER_S) -> R:
        return self.connection(step, [self.keys.head], patience_s=patience_s)


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
    """Pages through contexts and entries; never reads a whole context, or the keyspace, at once."""

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self._connection = entries.connection
        self._keys = entries.keys

    def contexts(self) -> Iterator[str]:
        last = ""
        while page := self._connection.send(
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
            cursor, page = self._connection.send("HSCAN", self._keys.entries(context), cursor, "COUNT", PAGE)
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
        found = self._connection.send("HMGET", self._keys.values, *digests, patience_s=BULK_S)
        return {digest: value for digest, value in zip(digests, found, strict=True) if value is not None}

    def _now_ms(self) -> int:
        seconds, micros = self._connection.send("TIME")
        return int(seconds) * 1000 + int(micros) // 1000


def _scanned(context: str, key: str, record: str, now_ms: int) -> ScannedEntry:
    digest, size, expires, ttl = record.split()
    left_ms = int(expires) - now_ms
    return ScannedEntry(
        context, key, digest, int(size), (left_ms if left_ms <= int(ttl) + CLOCK_MS else 0) * MS
    )
