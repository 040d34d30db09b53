"""Requests for locks sent by the step itself, as other programs and runs send them."""

from __future__ import annotations

from redis import Redis

from coordination.backend.keys import Keys
from coordination.backend.step_connection import StepCaller
from coordination.backend.steps.lock import Acquire, Answer

HOUR_MS = 3_600_000


def ask(
    client: Redis,
    request: str,
    wants: str,
    *,
    namespace: str = "test",
    ttl_ms: int = HOUR_MS,
    priority: int = 0,
    place_ms: int = HOUR_MS,
    rank: str = "",
    party: str = "",
    **description: str,
) -> Answer:
    """Send the request once. `party`: its owner (default: the request itself)."""
    step = Acquire(
        request=request, wants=wants, ttl_ms=ttl_ms, priority=priority, place_ms=place_ms, rank=rank,
        party=party or request, description=description.items(),
    )  # fmt: skip
    return StepCaller(client)(step, [Keys(namespace).locks.head])
