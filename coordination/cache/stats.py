"""How the cache does, in figures."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from coordination.backend.keys import CacheKeys
from coordination.backend.step_connection import StepConnection
from coordination.cache.limits import Limits
from coordination.cache.local import Local


class CacheStats(BaseModel):
    """Of the namespace, since its beginning, but for what is there now: entries, values, contexts, bytes."""

    model_config = ConfigDict(frozen=True)

    hits: int
    """Answered with a value, in process or by Redis."""
    local_hits: int
    """Those in process. A process tells of them when it asks Redis next, or closes its cache; one that is killed does not."""
    misses: int
    hit_rate: float
    """0 to 1; 0 where nothing was asked for."""
    writes: int
    evictions: int
    expired: int
    """Entries that were taken away since their time was over."""
    entries: int
    values: int
    """Different ones."""
    contexts: int
    bytes: int
    max_bytes: int
    eviction: str
    process_bytes: int
    """In this process."""


COUNTERS = ("hits", "local_hits", "misses", "puts", "evictions", "expired", "bytes")


def tell_hits(line: StepConnection, keys: CacheKeys, local: Local) -> None:
    """Those that were answered in process, and of which Redis does not know yet."""
    if hits := local.take_hits():
        line.send("HINCRBY", keys.facts, "local_hits", hits)


def read_stats(line: StepConnection, keys: CacheKeys, limits: Limits, local: Local) -> CacheStats:
    tell_hits(line, keys, local)
    answers = line.send("HMGET", keys.facts, *COUNTERS)
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
        entries=int(line.send("ZCARD", keys.expiry)),
        values=int(line.send("HLEN", keys.values)),
        contexts=int(line.send("ZCARD", keys.contexts)),
        bytes=fact["bytes"],
        max_bytes=limits.max_bytes,
        eviction=limits.eviction,
        process_bytes=local.bytes,
    )
