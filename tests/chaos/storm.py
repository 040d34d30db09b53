"""Kill storm: workers are killed with SIGKILL all the time, and others take their places, until every todo is
done.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from math import inf

from coordination.backend.keys import Keys
from tests.chaos.figures import Figures
from tests.chaos.record import lines_of
from tests.chaos.workers import NO_POISON, Watch, WorkerGroup, begin, dag, ledger_of, straight
from tests.testbed import Testbed, temporary_testbed

FAULT = "kill storm"
DOES = "SIGKILL to a random worker every 2 s, until 1,000 todos on 50 repositories are done by 8 workers"


@dataclass(frozen=True, kw_only=True)
class Storm:
    todos: int = 1000
    repos: int = 50
    workers: int = 8
    every_s: float = 2.0
    kills: float = inf
    """At most."""
    lasts_s: float = 0.5
    lease: str = "15s"
    strategy: str = "dataflow"
    seed: int = 0
    patience_s: float = 1800


def main(_minutes: float) -> Figures:
    with temporary_testbed() as testbed:
        return rage(testbed, Storm(seed=random.randrange(10**6)))


def rage(testbed: Testbed, storm: Storm) -> Figures:
    chance = random.Random(storm.seed)
    testbed.settings = {**NO_POISON, "lease_ttl": storm.lease}
    testbed.write(dag(storm.todos, storm.repos, chance, env={"LASTS": str(storm.lasts_s)}))
    url = testbed.server.start()
    group = WorkerGroup(testbed, [url] * storm.workers)
    group.ready()
    watch = Watch(testbed, straight(testbed))
    run = begin(testbed, url, strategy=storm.strategy)
    started, wrong = time.monotonic(), []
    due = started + storm.every_s

    def fate() -> None:
        nonlocal due
        if time.monotonic() >= due and group.killed < storm.kills:
            group.kill_one(chance)
            due += storm.every_s
        wrong.extend(group.restart_ended())

    wrong += watch.until_over([run], storm.patience_s, fate)
    took = time.monotonic() - started
    with testbed.redis() as redis:
        lost = redis.hget(Keys("coord").counters, "leases_lost") or 0
    runs = sum(line.starts for line in lines_of(ledger_of(testbed)))
    words = (
        f"{storm.todos} todos, {storm.workers} workers, {group.killed} kills, {lost} leases lost, "
        f"{runs} body runs, {took:.0f} s, seed {storm.seed}"
    )
    return Figures(measured=words, wrong=wrong)
