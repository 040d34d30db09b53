"""Of all who want to compute the same, one does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256

from redis import Redis

from coordination.locks import LockManager
from coordination.locks.wants import TTL

PATIENCE = timedelta(minutes=10)
"""How long others wait for the one that computes."""


class SingleFlight:
    def __init__(self, redis: Redis, namespace: str, ttl: timedelta = TTL) -> None:
        """`ttl`: so long after its last word the one that computes is taken for dead."""
        self._locks = LockManager(redis, namespace)
        self._ttl = ttl

    def one(self, what: str, look: Callable[[], bytes | None], make: Callable[[], bytes]) -> bytes:
        """What `look` finds, else what `make` makes, under a lock of that name; who waited for it looks again.

        The lock is renewed while `make` goes on; if its process dies, the next one has it when the ttl is over.
        """
        found = look()
        if found is not None:
            return found
        with self._locks.acquire(f"cache {sha256(what.encode()).hexdigest()[:32]}", ttl=self._ttl, wait=PATIENCE):
            found = look()
            return make() if found is None else found

    def close(self) -> None:
        self._locks.close()
