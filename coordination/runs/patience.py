"""How long a reader that blocks waits for a Redis that is away."""

from __future__ import annotations

import time

import redis

from coordination.errors import Unreachable

PATIENCE_S = 60.0
RECONNECT_S = 0.5
AWAY = (redis.ConnectionError, redis.TimeoutError)


class Patience:
    def __init__(self, hint: str, patience_s: float = PATIENCE_S) -> None:
        """`hint`: what to do when it has run out."""
        self._hint = hint
        self._patience_s = patience_s
        self._since: float | None = None

    def answered(self) -> None:
        self._since = None

    def wait(self, error: redis.RedisError) -> None:
        """A moment; raises Unreachable when it has been too many."""
        self._since = self._since or time.monotonic()
        if time.monotonic() - self._since > self._patience_s:
            raise Unreachable(f"Redis has been away for {self._patience_s:.0f} s: {error}", self._hint) from error
        time.sleep(RECONNECT_S)
