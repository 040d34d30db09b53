"""Set apart what stands under a key of coord with another type than coord keeps there: somebody else wrote it.

Every step that needs the key would be refused (WRONGTYPE), and one such key stops the maintenance leader. Its content is not looked
at, and kept for a week under `<ns>:apart:<key>`; what coord kept there was lost when it was overwritten.
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
    """Whether Redis refused a step since a key holds another type."""
    return "WRONGTYPE" in str(error)


def set_apart(redis: Redis, namespace: str) -> list[str]:
    """Goes through all keys of the namespace, and returns those that were set apart. `redis` must decode."""
    scripts, head = StepCaller(redis), f"{namespace}:"
    done = []
    for key, kind in _misplaced(redis, head):
        name = key.removeprefix(head)
        if found := scripts("fleet/set_apart", [key, f"{head}{APART}{name}"], [kind, KEPT_S]):
            logger.error(
                "the key %s held a %s, where coord keeps a %s: it is set apart as %s", key, found, kind, APART + name
            )
            done.append(name)
    return done


def _misplaced(redis: Redis, head: str) -> Iterator[tuple[str, str]]:
    """Key, and the type that it should have."""
    cursor = None
    while cursor != 0:
        cursor, names = redis.scan(cursor or 0, match=f"{head}*", count=AT_ONCE)
        keys = [(name, kind) for name in names if (kind := type_of(name.removeprefix(head)))]
        with redis.pipeline(transaction=False) as pipeline:
            for key, _ in keys:
                pipeline.type(key)
            found = pipeline.execute()
        yield from (key for key, kind in zip(keys, found, strict=True) if kind not in (key[1], "none"))
