"""Computing a value in only one of all processes that need it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256

from redis import Redis

from coordination.locks import LockManager
from coordination.locks.internal import COMPUTED
from coordination.locks.request import TTL

PATIENCE = timedelta(minutes=10)
"""Time that others wait for the process that computes."""


class SingleFlight:
    def __init__(self, redis: Redis, namespace: str, ttl: timedelta = TTL) -> None:
        """`ttl` is the silence after which the computing process counts as dead."""
        self._locks = LockManager(redis, namespace)
        self._ttl = ttl

    def one(self, what: str, look: Callable[[], bytes | None], make: Callable[[], bytes]) -> bytes:
        """Return the result of `look`, else that of `make` under a lock of that name; waiting processes then
        look again.

        The lock is renewed while `make` runs; if its process dies, the next one gets it after the ttl.
        """
        found = look()
        if found is not None:
            return found
        with self._locks.acquire(
            f"{COMPUTED}{sha256(what.encode()).hexdigest()[:32]}", ttl=self._ttl, wait=PATIENCE
        ):
            found = look()
            return make() if found is None else found

    def close(self) -> None:
        self._locks.close()
