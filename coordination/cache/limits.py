"""Size, lifetime and eviction order of cached values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from coordination.durations import MS
from coordination.errors import UsageError
from coordination.settings import Settings

LONGEST_TTL = timedelta(days=366)


class Eviction(StrEnum):
    LRU = "lru"
    """Evict the least recently used."""
    LFU = "lfu"
    """Evict the least frequently used; past popularity fades."""
    TTL = "ttl"
    """Evict what would expire first."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    max_bytes: int = 100 * 1024 * 1024
    """Size of all distinct values, and of their entries."""
    ttl: timedelta = timedelta(hours=1)
    """Lifetime of a value that sets none."""
    eviction: Eviction = Eviction.LRU
    value_bytes: int = 8 * 1024 * 1024
    """Size of one value."""

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        return cls(
            max_bytes=settings.cache_max_bytes,
            ttl=settings.cache_ttl,
            eviction=Eviction(settings.cache_eviction),
            value_bytes=settings.cache_value_bytes,
        )

    def ttl_ms(self, ttl: timedelta | None) -> int:
        """Return the lifetime in ms. Raises UsageError."""
        lasts = self.ttl if ttl is None else ttl
        if not isinstance(lasts, timedelta) or not MS <= lasts <= LONGEST_TTL:
            raise UsageError(f"invalid ttl: {lasts}", "give a duration from 1 ms to a year")
        return lasts // MS
