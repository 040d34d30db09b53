"""Older data of Redis come back in the middle of a run: the server is killed, and a copy of some seconds ago
put in its place.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from coordination.backend.daemon import Daemon
from tests.chaos.figures import Figures
from tests.chaos.ledger import after_a_restore
from tests.chaos.record import lines_of, record
from tests.chaos.workers import NO_POISON, Watch, WorkerGroup, begin, dag, ledger_of, straight
from tests.testbed import Testbed, temporary_testbed
from tests.waiting import until

FAULT = "older data restored"
DOES = (
    "SIGKILL to the server and its data of 1 to 6 s ago in its place, "
    "every 8 s while 150 todos are done, 6 times"
)


@dataclass(frozen=True, kw_only=True)
class Restores:
    todos: int = 150
    repos: int = 15
    workers: int = 4
    restores: int = 6
    older_s: tuple[float, float] = (1, 6)
    between_s: float = 4.0
    lasts_s: float = 0.3
    lease: str = "5s"
    seed: int = 0
    patience_s: float = 900


def main(_minutes: float) -> Figures:
    with temporary_testbed() as testbed:
        return restore(testbed, Restores(seed=random.randrange(10**6)))


def restore(testbed: Testbed, how: Restores) -> Figures:
    chance = random.Random(how.seed)
    testbed.settings = {**NO_POISON, "lease_ttl": how.lease}
    testbed.write(dag(how.todos, how.repos, chance, env={"LASTS": str(how.lasts_s)}))
    url = testbed.server.start()
    group = WorkerGroup(testbed, [url] * how.workers)
    group.ready()
    watch = Watch(testbed, straight(testbed))
    run, wrong, times = begin(testbed, url), [], 0
    while times < how.restores and not watch.over(run):
        _copy(testbed)
        time.sleep(chance.uniform(*how.older_s))
        _put_back(testbed)
        times += 1
        wrong += group.restart_ended()
        time.sleep(how.between_s)
    until(lambda: watch.over(run), how.patience_s)
    with testbed.redis() as redis:
        wrong += after_a_restore(lines_of(ledger_of(testbed)), record(redis, run))
    starts = sum(line.starts for line in lines_of(ledger_of(testbed)))
    return Figures(
        measured=f"{how.todos} todos, {times} restores, {starts} body runs, seed {how.seed}", wrong=wrong
    )


def _kept(testbed: Testbed) -> Path:
    return testbed.folder / "older"


def _copy(testbed: Testbed) -> None:
    """Between two writes."""
    shutil.rmtree(_kept(testbed), ignore_errors=True)
    with testbed.redis() as redis:
        redis.client_pause(60_000, all=False)
        shutil.copytree(testbed.state / "appendonlydir", _kept(testbed))
        redis.client_unpause()


def _put_back(testbed: Testbed) -> None:
    os.kill(testbed.daemon("server").pid, signal.SIGKILL)
    until(lambda: Daemon(testbed.state, "server").running() is None)
    shutil.rmtree(testbed.state / "appendonlydir")
    shutil.copytree(_kept(testbed), testbed.state / "appendonlydir")
    testbed.server.start()
