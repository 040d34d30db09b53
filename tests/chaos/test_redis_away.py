"""Story: Redis is away for a while, or comes back with nothing in it; no worker has to be started again for
that.
"""

from __future__ import annotations

import shutil

import pytest

from tests.testbed import PLAN, Begun, Testbed

NOTICED = "Cannot connect to"
"""The line that Celery logs after it has lost Redis and connected again."""


@pytest.fixture
def served(testbed: Testbed) -> Begun:
    """A worker that nobody looks after, on a server that can be killed under it."""
    testbed.write([{"id": "A", "repo": "r1"}])
    worker = testbed.begin("worker", "--all", COORD_REDIS_URL=testbed.server.start())
    worker.says("serving")
    return worker


def sweep(testbed: Testbed, *words: str) -> int:
    return testbed.coord("sweep", PLAN, *words, COORD_REDIS_URL=testbed.server.start()).code


def test_a_worker_that_is_started_while_redis_is_away_waits_for_it(testbed: Testbed):
    testbed.write([{"id": "A", "repo": "r1"}])
    url = testbed.server.start()
    testbed.kill("server")

    worker = testbed.begin("worker", "--all", COORD_REDIS_URL=url)
    worker.says("asking again until it does")

    assert sweep(testbed) == 0
    assert worker.poll() is None


@pytest.mark.parametrize("data", ["kept", "lost"])
def test_an_idle_worker_serves_again_when_redis_is_back(testbed: Testbed, served: Begun, data: str):
    assert sweep(testbed) == 0
    testbed.write([{"id": "B", "repo": "r1"}])

    testbed.kill("server")
    served.says(NOTICED)
    if data == "lost":
        shutil.rmtree(testbed.state / "appendonlydir")

    assert sweep(testbed) == 0
    assert served.poll() is None
    assert testbed.redis().zcard("coord:runs") == (1 if data == "lost" else 2)
