"""The harness' minute: each fault on a few todos, judged by what their bodies wrote down. `make chaos` has
the hours, and the times.
"""

from __future__ import annotations

import random

import pytest

from tests.chaos.everything import Everything, end_all
from tests.chaos.git_kills import GitKills, kill_gits
from tests.chaos.guard_kills import GuardKills, kill_guards
from tests.chaos.hostile import Writes, write_rubbish
from tests.chaos.restores import Restores, restore
from tests.chaos.storm import Storm, rage
from tests.testbed import Testbed

pytestmark = pytest.mark.long

SEED = random.randrange(10**6)
QUICK = {"lease_ttl": "5s", "heartbeat": "500ms"}


@pytest.mark.parametrize("strategy", ["dataflow", "levels"])
def test_whichever_worker_is_killed_every_todo_is_done_in_its_turn_and_settled_once(
    testbed: Testbed, strategy: str
) -> None:
    storm = Storm(
        todos=24,
        repos=6,
        workers=3,
        every_s=1,
        kills=3,
        lasts_s=0.2,
        lease="5s",
        strategy=strategy,
        seed=SEED,
    )

    raged = rage(testbed, storm)

    assert raged.wrong == [], raged.measured


def test_everything_killed_at_once_goes_on_where_it_was(testbed: Testbed) -> None:
    how = Everything(
        kills=2, todos=24, repos=6, lasts_s=0.2, runs_for_s=(0.5, 1.5), settings=QUICK, seed=SEED
    )

    ended = end_all(testbed, how)

    assert ended.wrong == [], ended.measured


def test_whichever_git_is_killed_every_todo_succeeds(testbed: Testbed) -> None:
    killed = kill_gits(testbed, GitKills(todos=12, repos=4, workers=2, one_in=40, seed=SEED, patience_s=90))

    assert killed.wrong == [], killed.measured


def test_whichever_guard_is_killed_no_child_lives_into_the_next_attempt(testbed: Testbed) -> None:
    killed = kill_guards(testbed, GuardKills(todos=8, repos=4, workers=2, kills=3, seed=SEED, patience_s=90))

    assert killed.wrong == [], killed.measured


def test_older_data_that_come_back_end_right(testbed: Testbed) -> None:
    how = Restores(
        todos=16, repos=4, workers=2, restores=1, older_s=(1, 2), lease="5s", seed=SEED, patience_s=90
    )

    restored = restore(testbed, how)

    assert restored.wrong == [], restored.measured


def test_workers_live_through_rubbish_in_redis(testbed: Testbed) -> None:
    written = write_rubbish(
        testbed, Writes(seconds=5, todos=12, repos=4, workers=2, seed=SEED, patience_s=90)
    )

    assert written.wrong == [], written.measured
