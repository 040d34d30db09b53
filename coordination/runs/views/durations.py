"""How long todos took in earlier runs: what a plan reckons with where nobody has estimated it.

Each todo that succeeds leaves its duration with those that are like it (planner/hours.py): the last 25 of a group are kept, for 90
days from the last one on; see backend/lua/run/_run_durations.lua.
"""

from __future__ import annotations

from collections.abc import Collection
from statistics import median

from redis import Redis

from coordination.backend.keys import Keys
from coordination.planner.hours import Group

MS_IN_AN_HOUR = 3_600_000


def learned(redis: Redis, keys: Keys, groups: Collection[Group]) -> dict[Group, float]:
    """The median of each group in hours, in one round trip; a group of which nothing is known is left out."""
    asked = list(groups)
    if not asked:
        return {}
    with redis.pipeline(transaction=False) as pipeline:
        for group in asked:
            pipeline.lrange(keys.durations(group.repo, group.kind), 0, -1)
        answers = pipeline.execute()
    return {
        group: median(map(int, durations)) / MS_IN_AN_HOUR
        for group, durations in zip(asked, answers, strict=True)
        if durations
    }
