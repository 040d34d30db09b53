"""A minute of each fault of `make chaos`, judged by what the bodies of a few todos wrote down."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.chaos.everything import Everything, end_all
from tests.chaos.figures import Figures
from tests.chaos.hostile import Writes, write_rubbish
from tests.chaos.hostile_todos import attack
from tests.chaos.outages import Lines, Restarts
from tests.chaos.storms import GitKills, GuardKills, KillStorm, Restores
from tests.sandboxes import needs_bubblewrap
from tests.testbed import Testbed

pytestmark = pytest.mark.long

SEED = random.randrange(10**6)
QUICK = {"lease_ttl": "5s", "heartbeat": "500ms"}
KILLS = {"todos": 24, "repos": 6, "workers": 3, "every_s": 1, "strikes": 3, "lasts_s": 0.2, "lease": "5s"}
FEW = {"repos": 4, "workers": 2, "seed": SEED, "patience_s": 120}
STORMS: dict[str, Callable[[Testbed], Figures]] = {
    "workers are killed, dataflow": KillStorm(strategy="dataflow", seed=SEED, **KILLS).rage,
    "workers are killed, levels": KillStorm(strategy="levels", seed=SEED, **KILLS).rage,
    "gits are killed": GitKills(todos=12, **FEW).rage,
    "guards are killed over children that left everything": GuardKills(todos=8, strikes=3, **FEW).rage,
    "older data come back": Restores(todos=16, strikes=1, every_s=0.2, older_s=(1, 2), **FEW).rage,
    "everything is killed at once": lambda testbed: end_all(
        testbed,
        Everything(kills=2, todos=24, repos=6, lasts_s=0.2, runs_for_s=(0.5, 1.5), settings=QUICK, seed=SEED),
    ),
    "rubbish is written into Redis": lambda testbed: write_rubbish(
        testbed, Writes(seconds=5, todos=12, **FEW)
    ),
    "Redis is killed and restarted": Restarts(
        seconds=5, every_s=(0.5, 1.5), away_s=(0, 0.5), workers=2, todos=20, repos=5, lasts_s=0.2, seed=SEED
    ).rage,
    "lines to Redis misbehave": Lines(
        workers=2, todos=12, repos=6, lasts_s=0.1, fault_s=1, lease="5s", seed=SEED
    ).rage,
}


@pytest.mark.parametrize("storm", STORMS.values(), ids=STORMS)
def test_no_todo_is_lost_done_twice_or_too_early_when(
    testbed: Testbed, storm: Callable[[Testbed], Figures]
) -> None:
    figures = storm(testbed)

    assert figures.wrong == [], figures.measured


@needs_bubblewrap
def test_hostile_todos_change_nothing_outside_of_their_folders() -> None:
    figures = attack(60, SEED)

    assert figures.wrong == [], figures.measured
