"""What is to be done for the cache now and then, by the process that leads: what has expired goes, what is kept is written to disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from coordination.cache.disk import Disk
from coordination.cache.entries import Entries
from coordination.cache.limits import Limits
from coordination.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Tidied:
    expired: int
    restored: int
    """From disk, into a Redis that had lost its data."""


class CacheChore:
    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._entries = Entries(redis, settings.namespace, Limits.of(settings))
        folder = settings.cache_folder
        self._disk = Disk(self._entries, settings.namespace, Path(folder)) if folder else None

    def run_once(self) -> Tidied:
        """Raises CoordinationError."""
        expired = self._entries.expire()
        return Tidied(expired=expired, restored=self._disk.run_once() if self._disk else 0)
