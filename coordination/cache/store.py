"""Values by key, as bytes: for whoever keeps what can be made again."""

from __future__ import annotations

from datetime import timedelta

from redis import Redis

from coordination.cache.entries import Entries
from coordination.cache.limits import Limits
from coordination.cache.names import check_contexts, check_key, store

RESULTS = "results"
"""Of todos with a `cache`: what they came to (workers/reuse)."""


class Store:
    """One of a name in the namespace; all of them, and the contexts, share the size of the cache. Equal values are kept once.

    Raises UsageError for a key or value that is none, Unreachable.
    """

    def __init__(self, redis: Redis, namespace: str, name: str, limits: Limits | None = None) -> None:
        self._entries = Entries(redis, namespace, limits or Limits())
        self._contexts = check_contexts((store(name),))

    def put(self, key: str, value: bytes, ttl: timedelta | None = None) -> None:
        """Raises NoRoom, too."""
        self._entries.put(self._contexts[0], check_key(key), value, ttl)

    def get(self, key: str) -> bytes | None:
        """None where it was never put, has expired, or was evicted. It counts as used."""
        return self._entries.get(check_key(key), self._contexts).value

    def delete(self, key: str) -> bool:
        """Whether there was one."""
        gone, _ = self._entries.delete(self._contexts, [check_key(key)])
        return gone == 1

    def clear(self) -> None:
        """All of them."""
        self._entries.drop(self._contexts)

    def close(self) -> None:
        self._entries.close()
