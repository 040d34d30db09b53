"""Count the calls of all processes to forges in Redis, hour by hour, and derive polling intervals.

The count is no protection: a program that can write to Redis can exceed it, and then the limits of the forge
apply.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import redis

from coordination.backend.keys import Keys
from coordination.forges.errors import ForgeError, ForgeProblem

HOUR = timedelta(hours=1)
KEPT = 2 * HOUR
SHORTEST, LONGEST = timedelta(seconds=1), HOUR
CALLS_PER_POLL = 4
"""Number of calls for one look at a request: request, reviews, and two kinds of checks."""
FOR_POLLING = 0.5
"""Share of the budget for polling; the rest is for webhooks and for commands of people."""
FOR_WEBHOOKS = 0.25
"""Share of the budget for looks that webhooks cause."""


class ForgeBudget:
    """Counts calls to each host, over all processes of a namespace."""

    def __init__(self, client: redis.Redis, keys: Keys, calls_an_hour: int) -> None:
        self._redis = client
        self._keys = keys
        self._limit = calls_an_hour

    def spender(self, host: str) -> Callable[[], None]:
        """Return the function to call before each call to a host; it raises BUDGET."""
        return lambda: self.spend(host, datetime.now(UTC))

    def spend(self, host: str, now: datetime) -> None:
        """Count a call. Raises ForgeError (BUDGET), with the time of the next hour."""
        hour = now.replace(minute=0, second=0, microsecond=0)
        key = self._keys.forge_calls(host, f"{hour:%Y%m%d%H}")
        with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.incr(key)
            pipeline.expire(key, KEPT)
            used, _ = pipeline.execute()
        if used > self._limit:
            raise ForgeError(
                ForgeProblem.BUDGET,
                f"forge_budget is used up: {self._limit:,} calls to {host} in this hour",
                f"continue at {hour + HOUR:%H:%M} UTC, or raise the setting forge_budget",
                retry_at=hour + HOUR,
            )

    def interval(self, host: str, request: str, now: datetime, together: int = 1) -> timedelta:
        """Note that a request waits, and return the pause before the next look at it, which grows with the
        number of waiting requests at the host. `together`: the number of requests of the same landing, also
        of those that do not wait yet: without them coord would look at the first ones too often.
        """
        key = self._keys.forge_waiting(host)
        with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.zadd(key, {request: now.timestamp()})
            pipeline.zremrangebyscore(key, "-inf", (now - KEPT).timestamp())
            pipeline.zcard(key)
            pipeline.expire(key, KEPT)
            waiting = pipeline.execute()[2]
        return min(polling_interval(self._limit, max(waiting, together), CALLS_PER_POLL), LONGEST)

    def allows_webhook_look(self, host: str, now: datetime) -> bool:
        """Count a look caused by a webhook; return whether the budget of this hour allows it."""
        key = self._keys.forge_calls(host, f"{now:%Y%m%d%H}-news")
        with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.incr(key)
            pipeline.expire(key, KEPT)
            looks, _ = pipeline.execute()
        return bool(looks * CALLS_PER_POLL <= self._limit * FOR_WEBHOOKS)

    def remove_waiting(self, host: str, request: str) -> None:
        """Note that a request does not wait any more."""
        self._redis.zrem(self._keys.forge_waiting(host), request)


def polling_interval(calls_an_hour: int, requests: int, calls_each: int) -> timedelta:
    """Return the pause between two looks at all requests that uses half of the budget."""
    calls_a_round = max(1, requests * calls_each)
    return max(SHORTEST, HOUR * calls_a_round / max(1.0, calls_an_hour * FOR_POLLING))
