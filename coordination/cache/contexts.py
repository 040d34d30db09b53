"""Contexts: JSON values by key, as seen from a place in the tree; and the statistics of the cache.

Each read asks this process' layer first, then Redis.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256
from typing import Any, ClassVar, TypeVar

from redis import Redis

from coordination.background import opened_once
from coordination.cache.entries import Entries, ScannedEntry, Walk
from coordination.cache.local import Local
from coordination.cache.names import (
    Chain,
    Limits,
    Scope,
    chain_of,
    check_contexts,
    check_key,
    is_pattern,
    matcher,
    outward,
    packed,
    scope_of,
    write_chain,
)
from coordination.declared import Column, Table
from coordination.errors import Unreachable
from coordination.frozen import FrozenModel

T = TypeVar("T")
COMPUTE_PATIENCE = timedelta(minutes=10)
"""Time that others wait for the process that computes a value."""


class Kept(FrozenModel):
    """A visible key without its value."""

    shown: ClassVar = Table(
        columns=(
            Column("KEY"),
            Column("SCOPE"),
            Column("BYTES"),
            Column("EXPIRES IN", of=lambda one: f"{one.expires_in_s:.0f} s"),
        ),
        none="no value matches",
        next_step="set one: coord context set KEY VALUE",
    )
    key: str
    scope: str
    """Scope of the context that holds the key."""
    bytes: int
    """Size of the value as JSON."""
    expires_in_s: float


class CacheStats(FrozenModel):
    """Figures of the namespace: counters since its creation; entries, values, contexts and
    bytes at present.
    """

    hits: int
    """Reads that found a value, locally or in Redis."""
    local_hits: int
    """Reads answered locally. A process reports them with its next request or when it closes the cache, not
    if it is killed.
    """
    misses: int
    hit_rate: float
    """From 0 to 1; 0 if nothing was read."""
    writes: int
    evictions: int
    expired: int
    """Entries removed because they had expired."""
    entries: int
    values: int
    """Number of distinct values."""
    contexts: int
    bytes: int
    max_bytes: int
    eviction: str
    process_bytes: int
    """Size of this process' layer."""


COUNTERS = ("hits", "local_hits", "misses", "puts", "evictions", "expired", "bytes")


class Cache:
    """The contexts of a namespace. Thread-safe. Raises Unreachable, UsageError, NoRoom."""

    def __init__(
        self, redis: Redis, namespace: str, limits: Limits | None = None, local: Local | None = None
    ) -> None:
        self.entries = Entries(redis, namespace, limits or Limits())
        self.local = local or Local()
        self.walk = Walk(self.entries)
        self.redis = redis
        self.namespace = namespace
        self.check_change: Callable[[], object] = lambda: None
        """Is called before a context of `at` is changed; an exception refuses it."""

    def at(self, plan: str = "", run: str | Sequence[str] = (), todo: str = "") -> Context:
        """Return the context of a todo of a run, of a run, of a plan, or without arguments of the ecosystem.

        `run` is a run, or a run followed by those that it continues.
        """
        runs = ([run] if run else []) if isinstance(run, str) else run
        return Context(self, chain_of(plan, runs, todo), self.check_change)

    def stats(self) -> CacheStats:
        self._report_hits()
        connection, keys, limits = self.entries.connection, self.entries.keys, self.entries.limits
        answers = connection.send("HMGET", keys.facts, *COUNTERS)
        fact = {name: int(value or 0) for name, value in zip(COUNTERS, answers, strict=True)}
        hits = fact["hits"] + fact["local_hits"]
        return CacheStats(
            hits=hits,
            local_hits=fact["local_hits"],
            misses=fact["misses"],
            hit_rate=round(hits / max(1, hits + fact["misses"]), 4),
            writes=fact["puts"],
            evictions=fact["evictions"],
            expired=fact["expired"],
            entries=int(connection.send("ZCARD", keys.expiry)),
            values=int(connection.send("HLEN", keys.values)),
            contexts=int(connection.send("ZCARD", keys.contexts)),
            bytes=fact["bytes"],
            max_bytes=limits.max_bytes,
            eviction=limits.eviction,
            process_bytes=self.local.bytes,
        )

    @opened_once
    def flight(self) -> SingleFlight:
        return SingleFlight(self.redis, self.namespace)

    def close(self) -> None:
        if "flight" in self.__dict__:
            self.flight.close()
        with suppress(Unreachable):
            self._report_hits()
        self.entries.close()

    def _report_hits(self) -> None:
        """Report local hits that Redis has not counted yet."""
        if hits := self.local.take_hits():
            self.entries.connection.send("HINCRBY", self.entries.keys.facts, "local_hits", hits)


class SingleFlight:
    """Computes a value in only one of all processes that need it."""

    def __init__(self, redis: Redis, namespace: str, ttl: timedelta | None = None) -> None:
        """`ttl` is the silence after which the computing process counts as dead (default: that of locks)."""
        from coordination.locks import LockManager  # an import that most commands on values do not need

        self._locks = LockManager(redis, namespace)
        self._ttl = ttl

    def one(self, what: str, look: Callable[[], bytes | None], make: Callable[[], bytes]) -> bytes:
        """Return the result of `look`, else that of `make` under a lock of that name; waiting processes then
        look again.

        The lock is renewed while `make` runs; if its process dies, the next one gets it after the ttl.
        """
        from coordination.locks.request import COMPUTED, TTL

        found = look()
        if found is not None:
            return found
        name = f"{COMPUTED}{sha256(what.encode()).hexdigest()[:32]}"
        with self._locks.acquire(name, ttl=self._ttl or TTL, wait=COMPUTE_PATIENCE):
            found = look()
            return make() if found is None else found

    def close(self) -> None:
        self._locks.close()


class Context:
    """One context and the outer ones that it sees."""

    def __init__(
        self, cache: Cache, chain: Sequence[str], check_change: Callable[[], object] = lambda: None
    ) -> None:
        """`chain`: the names of the contexts, the innermost first. `check_change` is called before each
        change; an exception refuses it.
        """
        self.cache = cache
        self.chain = check_contexts(chain)
        self._check_change = check_change

    def get(self, key: str, default: Any = None, *, scope: Scope | None = None) -> Any:
        """Read the nearest value of a key.

        `default` is returned where there is none. With `scope`, the search starts at that context.
        """
        raw = self._read_raw(check_key(key), outward(self.chain, scope))
        return default if raw is None else json.loads(raw)

    def set(self, key: str, value: Any, ttl: timedelta | None = None, *, scope: Scope | None = None) -> None:
        """Set a value that todos share. The contexts within this one see it, outer ones do not.

        `value` is stored as JSON. `scope`: set it in that context instead of the run's.
        """
        context = self._write_chain(scope)[0]
        self.cache.entries.put(context, check_key(key), packed(value), ttl)
        self.cache.local.invalidate(context, [key])

    def delete(
        self, *names: str, scope: Scope | None = None, ttl: timedelta | None = None, regex: bool = False
    ) -> int:
        """Delete keys, patterns such as `build.*`, or with `regex` regular expressions; return the number of
        deleted keys.

        Outer contexts keep their values, which are hidden from this context for the ttl.
        """
        contexts = self._write_chain(scope)
        patterns = [matcher(name, regex) for name in names if regex or is_pattern(name)]
        found = dict.fromkeys(check_key(name) for name in names if not (regex or is_pattern(name)))
        if patterns:
            found |= dict.fromkeys(self._visible(lambda key: any(fits(key) for fits in patterns), contexts))
        keys = list(found)
        deleted, _ = self.cache.entries.delete(contexts, keys, ttl) if keys else (0, 0)
        self.cache.local.invalidate(contexts[0], keys)
        return deleted

    def clear(self, *, scope: Scope | None = None) -> int:
        """Delete every key of this context, and hide the values of outer ones, for the default ttl."""
        return self.delete("*", scope=scope)

    def list(self, pattern: str = "*", *, scope: Scope | None = None, regex: bool = False) -> Iterator[Kept]:
        """Yield visible keys in order. With `regex`, the pattern is a regular expression that may match any
        part of a key.
        """
        found = self._visible(matcher(pattern, regex), outward(self.chain, scope))
        for held in sorted(found.values(), key=lambda held: held.key):
            yield Kept(
                key=held.key,
                scope=scope_of(held.context),
                bytes=held.size,
                expires_in_s=held.left.total_seconds(),
            )

    def get_or_compute(
        self, key: str, compute: Callable[[], T], ttl: timedelta | None = None, *, scope: Scope | None = None
    ) -> T:
        """Return the nearest value, else store and return the result of `compute`.

        Among all processes that ask for the key, one computes and the others wait; if it dies, the next one
        computes. Raises LockTimeout, and what `compute` raises.
        """
        context = self._write_chain(scope)[0]

        def look() -> bytes | None:
            return self._read_raw(check_key(key), self.chain)

        def make() -> bytes:
            self.set(key, value := compute(), ttl, scope=scope)
            return packed(value)

        value: T = json.loads(self.cache.flight.one(f"{context}\n{key}", look, make))
        return value

    def _read_raw(self, key: str, contexts: Chain) -> bytes | None:
        local = self.cache.local
        if (known := local.get(key, contexts)) is not None:
            return known
        asked_at = local.clock()
        answer = self.cache.entries.get(key, contexts, local.take_hits())
        local.remember(key, contexts, answer, asked_at)
        return answer.value

    def _write_chain(self, scope: Scope | None) -> Chain:
        self._check_change()
        return write_chain(self.chain) if scope is None else outward(self.chain, scope)

    def _visible(self, fits: Callable[[str], bool], contexts: Chain) -> Mapping[str, ScannedEntry]:
        found: dict[str, ScannedEntry] = {}
        for context in contexts:
            for held in self.cache.walk.entries(context):
                if fits(held.key):
                    found.setdefault(held.key, held)
        return {key: held for key, held in found.items() if not held.hides}
