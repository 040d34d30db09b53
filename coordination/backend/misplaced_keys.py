"""Moves keys of coord that hold a foreign type out of the way: another program has overwritten them.

Redis refuses every step that uses such a key (WRONGTYPE), and one such key stops the maintenance leader. The
key is renamed to `<ns>:apart:<key>` and kept for a week; its content is not read. The data that coord had
stored there was lost when the key was overwritten.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from redis import Redis

from coordination.backend.keys import APART, type_of
from coordination.backend.step_connection import StepCaller

KEPT_S = 7 * 24 * 3600
AT_ONCE = 1000

logger = logging.getLogger(__name__)


def is_wrong_type(error: Exception) -> bool:
    """Return whether Redis refused a step because a key holds another type."""
    return "WRONGTYPE" in str(error)


def set_apart(redis: Redis, namespace: str) -> list[str]:
    """Rename all misplaced keys of the namespace; return their names without it. `redis` must decode."""
    call_step, head = StepCaller(redis), f"{namespace}:"
    done = []
    for key, kind in _misplaced(redis, head):
        name = key.removeprefix(head)
        if found := call_step("fleet/set_apart", [key, f"{head}{APART}{name}"], [kind, KEPT_S]):
            logger.error("key %s held a %s instead of a %s: renamed to %s", key, found, kind, APART + name)
            done.append(name)
    return done


def _misplaced(redis: Redis, head: str) -> Iterator[tuple[str, str]]:
    """Yield each misplaced key, and the type that it should have."""
    cursor = None
    while cursor != 0:
        cursor, names = redis.scan(cursor or 0, match=f"{head}*", count=AT_ONCE)
        keys = [(name, kind) for name in names if (kind := type_of(name.removeprefix(head)))]
        with redis.pipeline(transaction=False) as pipeline:
            for key, _ in keys:
                pipeline.type(key)
            found = pipeline.execute()
        yield from (key for key, kind in zip(keys, found, strict=True) if kind not in (key[1], "none"))
