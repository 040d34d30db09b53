"""Story: Redis is away for a while, or comes back with nothing in it; no worker has to be started again for
that.
"""

from __future__ import annotations

import shutil

import pytest

from tests.stage import PLAN, Begun, Stage

NOTICED = "Cannot connect to"
"""As the carrier says itself, after it has lost Redis and tried again."""


@pytest.fixture
def served(stage: Stage) -> Begun:
    """A worker that nobody looks after, on a server that can be killed under it."""
    stage.write([{"id": "A", "repo": "r1"}])
    worker = stage.begin("worker", "--all", COORD_REDIS_URL=stage.server.start())
    worker.says("serving")
    return worker


def sweep(stage: Stage, *words: str) -> int:
    return stage.coord("sweep", PLAN, *words, COORD_REDIS_URL=stage.server.start()).code


def test_an_idle_worker_serves_again_when_redis_is_back(stage: Stage, served: Begun):
    assert sweep(stage) == 0
    stage.write([{"id": "B", "repo": "r1"}])

    stage.kill("server")
    served.says(NOTICED)

    assert sweep(stage) == 0
    assert served.poll() is None


def test_a_worker_that_is_started_while_redis_is_away_waits_for_it(stage: Stage):
    stage.write([{"id": "A", "repo": "r1"}])
    url = stage.server.start()
    stage.kill("server")

    worker = stage.begin("worker", "--all", COORD_REDIS_URL=url)
    worker.says("asking again until it does")

    assert sweep(stage) == 0
    assert worker.poll() is None


def test_a_redis_that_comes_back_empty_is_served_as_well(stage: Stage, served: Begun):
    assert sweep(stage) == 0
    stage.write([{"id": "B", "repo": "r1"}])

    stage.kill("server")
    shutil.rmtree(stage.state / "appendonlydir")

    assert sweep(stage) == 0
    assert served.poll() is None
    assert stage.redis().zcard("coord:runs") == 1
