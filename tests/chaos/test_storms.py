"""The harness' minute: each fault on a few todos, judged by what their bodies wrote down. `make chaos` has the hours, and the times."""

from __future__ import annotations

import random

import pytest

from tests.chaos.everything import Everything, end_all
from tests.chaos.storm import Storm, rage
from tests.stage import Stage

SEED = random.randrange(10**6)
QUICK = {"lease_ttl": "2s", "heartbeat": "500ms"}


@pytest.mark.parametrize("strategy", ["dataflow", "levels"])
def test_whichever_worker_is_killed_every_todo_is_done_in_its_turn_and_settled_once(
    stage: Stage, strategy: str
) -> None:
    storm = Storm(
        todos=24, repos=6, workers=3, every_s=1, kills=3, lasts_s=0.2, lease="2s", strategy=strategy, seed=SEED
    )

    raged = rage(stage, storm)

    assert raged.wrong == [], raged.measured


def test_everything_killed_at_once_goes_on_where_it_was(stage: Stage) -> None:
    how = Everything(kills=2, todos=24, repos=6, lasts_s=0.2, runs_for_s=(0.5, 1.5), settings=QUICK, seed=SEED)

    ended = end_all(stage, how)

    assert ended.wrong == [], ended.measured
