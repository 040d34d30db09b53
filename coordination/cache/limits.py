"""How much is kept, for how long, and what goes first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from coordination.errors import UsageError
from coordination.settings import Settings

LONGEST_TTL = timedelta(days=366)
MS = timedelta(milliseconds=1)


class Eviction(StrEnum):
    LRU = "lru"
    """What was used least recently."""
    LFU = "lfu"
    """What was used least often; what was popular once goes, too."""
    TTL = "ttl"
    """What would expire first."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    max_bytes: int = 100 * 1024 * 1024
    """Of all values, each counted once, and of what their entries take."""
    ttl: timedelta = timedelta(hours=1)
    """Of what is kept without a word about it."""
    eviction: Eviction = Eviction.LRU
    value_bytes: int = 8 * 1024 * 1024
    """Of one value."""

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        return cls(
            max_bytes=settings.cache_max_bytes,
            ttl=settings.cache_ttl,
            eviction=Eviction(settings.cache_eviction),
            value_bytes=settings.cache_value_bytes,
        )

    def ttl_ms(self, ttl: timedelta | None) -> int:
        """Raises UsageError."""
        lasts = self.ttl if ttl is None else ttl
        if not isinstance(lasts, timedelta) or not MS <= lasts <= LONGEST_TTL:
            raise UsageError(f"a ttl of {lasts} is none", "from 1 ms to a year, as a timedelta")
        return lasts // MS
