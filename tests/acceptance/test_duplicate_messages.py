"""Story: every todo starts exactly once and after its predecessors, by a ledger that nobody of coord's
writes.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.testbed import Testbed

LEVELS, WIDTH = 4, 6
ROOT = str(Path(__file__).parents[2])
BOTH_ENDS = 'echo "start $COORD_TODO_ID" >> "$LEDGER"; echo "end $COORD_TODO_ID" >> "$LEDGER"'


def predecessors() -> dict[str, list[str]]:
    """24 todos; each comes after three of the level before, the first of them fixed so that levels are
    levels.
    """
    draw = random.Random(6)
    names = [[f"T{level}-{i:02}" for i in range(WIDTH)] for level in range(LEVELS)]
    return {
        name: sorted({names[level - 1][i], *draw.sample(names[level - 1], 2)}) if level else []
        for level in range(LEVELS)
        for i, name in enumerate(names[level])
    }


@pytest.fixture
def levels(testbed: Testbed) -> Testbed:
    testbed.write(
        [
            {
                "id": name,
                "repo": f"r{int(name[-2:])}",
                "blocked_by": before,
                "action": BOTH_ENDS,
                "workspace": "in-place",
            }
            for name, before in predecessors().items()
        ]
    )
    return testbed


def check_ledger(testbed: Testbed) -> None:
    lines = testbed.ledger
    starts = [line.removeprefix("start ") for line in lines if line.startswith("start ")]
    position = {line: i for i, line in enumerate(lines)}

    assert len(starts) == LEVELS * WIDTH
    assert sorted(starts) == sorted(predecessors())
    for name, before in predecessors().items():
        assert all(position[f"end {b}"] < position[f"start {name}"] for b in before), name


@pytest.mark.parametrize("strategy", ["levels", "dataflow"])
def test_promises_1_and_3_every_todo_starts_once_and_in_order_though_every_message_comes_twice(
    levels: Testbed, strategy: str
):
    levels.redis()  # starts the server
    url = f"unix://{levels.redis().connection_pool.connection_kwargs['path']}"
    script = f"import sys; sys.path[0] = {ROOT!r}; from tests.duplicate_messages import main; main()"
    levels.begin_script(script, "worker", "--all", "--state", str(levels.state), COORD_REDIS_URL=url)
    sweep = levels.begin_script(
        script, "coord", "sweep", "PLAN-001", "--strategy", strategy, COORD_REDIS_URL=url
    )

    assert sweep.wait(90) == 0, sweep.err
    assert levels.redis().info("commandstats")["cmdstat_lpush"]["calls"] >= 2 * LEVELS * WIDTH
    check_ledger(levels)
