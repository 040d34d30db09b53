"""The harness' minute, what happens to Redis and to the lines that lead there; judged by what todos' bodies
wrote down.
"""

from __future__ import annotations

import random

import pytest

from tests.chaos.lines import PHASES, Lines, misbehave
from tests.chaos.restarts import Restarts, suffer
from tests.testbed import Testbed

pytestmark = pytest.mark.long

SEED = random.randrange(10**6)


def test_whenever_redis_is_killed_or_restarted_no_todo_is_lost_or_done_twice(testbed: Testbed) -> None:
    how = Restarts(
        seconds=5, every_s=(0.5, 1.5), away_s=(0, 0.5), workers=2, todos=20, repos=5, lasts_s=0.2, seed=SEED
    )

    suffered = suffer(testbed, how)

    assert suffered.wrong == [], suffered.measured


def test_whatever_the_line_to_redis_does_no_todo_is_lost_or_done_twice(testbed: Testbed) -> None:
    how = Lines(
        workers=2, todos=12, repos=6, lasts_s=0.1, fault_s=1, lease="5s", seed=SEED, phases=tuple(PHASES)
    )

    misbehaved = misbehave(testbed, how)

    assert misbehaved.wrong == [], misbehaved.measured
