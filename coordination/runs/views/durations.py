"""Learn how long todos take from earlier runs: estimates for todos without one.

Each todo that succeeds records its duration in the group of similar todos (planner/hours.py). The last 25
durations of a group are kept, until 90 days after the newest; see backend/lua/run/_run_durations.lua.
"""

from __future__ import annotations

from collections.abc import Collection

from redis import Redis

from coordination.backend.keys import Keys
from coordination.planner.hours import Group, medians


def learned(redis: Redis, keys: Keys, groups: Collection[Group]) -> dict[Group, float]:
    """Return the median of each group in hours, in one round trip; groups without durations are left out."""
    asked = list(groups)
    if not asked:
        return {}
    with redis.pipeline(transaction=False) as pipeline:
        for group in asked:
            pipeline.lrange(keys.durations(group.repo, group.kind), 0, -1)
        answers = pipeline.execute()
    return medians({group: [int(ms) for ms in kept] for group, kept in zip(asked, answers, strict=True)})
