"""Redis is restarted and killed under load, with its append-only file, and workers go on without having been
started again.
"""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass

from coordination.backend.daemon import Daemon
from tests.chaos.figures import Figures, spread
from tests.chaos.probes import PROBE_PLAN, Probes
from tests.chaos.record import lines_of
from tests.chaos.workers import Watch, WorkerGroup, begin, dag, ledger_of, straight
from tests.testbed import Testbed, temporary_testbed
from tests.waiting import until

FAULT = "Redis restarted or killed"
DOES = (
    "every 5 to 40 s SIGTERM or SIGKILL to Redis, which is away for up to 5 s; load on 4 workers all the time"
)


@dataclass(frozen=True, kw_only=True)
class Restarts:
    seconds: float
    every_s: tuple[float, float] = (5, 40)
    away_s: tuple[float, float] = (0, 5)
    workers: int = 4
    todos: int = 120
    repos: int = 12
    lasts_s: float = 0.3
    seed: int = 0


def main(minutes: float) -> Figures:
    with temporary_testbed() as testbed:
        return suffer(testbed, Restarts(seconds=60 * minutes, seed=random.randrange(10**6)))


def suffer(testbed: Testbed, how: Restarts) -> Figures:
    chance = random.Random(how.seed)
    load = dag(how.todos, how.repos, chance, env={"LASTS": str(how.lasts_s)})
    probes = Probes(testbed, how.workers)
    testbed.write([*load, *probes.todos], plans=[PROBE_PLAN])
    url = testbed.server.start()
    group = WorkerGroup(
        testbed, [url] * how.workers, served=probes.served([f"r{n:02}" for n in range(how.repos)])
    )
    group.ready()
    return _Trial(testbed, url, group, probes, how, chance).run()


class _Trial:
    def __init__(
        self,
        testbed: Testbed,
        url: str,
        group: WorkerGroup,
        probes: Probes,
        how: Restarts,
        chance: random.Random,
    ) -> None:
        self._testbed, self._group, self._probes, self._how, self._chance = (
            testbed,
            group,
            probes,
            how,
            chance,
        )
        self._url = url
        self._watch = Watch(testbed, straight(testbed))
        self._swept: list[str] = []
        self.wrong: list[str] = []

    def run(self) -> Figures:
        end = time.monotonic() + self._how.seconds
        restarts = 0
        while time.monotonic() < end:
            self._load_until(time.monotonic() + self._chance.uniform(*self._how.every_s))
            self._restart((signal.SIGTERM, signal.SIGKILL)[restarts % 2])
            restarts += 1
            self.wrong += (
                self._probes.look(self._url, time.time(), self._swept[-2:]) + self._group.restart_ended()
            )
        self.wrong += self._watch.until_over(self._swept, 120)
        return Figures(measured=self._words(restarts), wrong=self.wrong, late=self._probes.late)

    def _load_until(self, until_s: float) -> None:
        """There is always a run under way."""
        while time.monotonic() < until_s:
            if not self._swept or self._watch.over(self._swept[-1]):
                strategy = ("levels", "dataflow")[len(self._swept) % 2]
                self._swept.append(begin(self._testbed, self._url, strategy=strategy))
            time.sleep(0.1)

    def _restart(self, number: signal.Signals) -> None:
        record = self._testbed.daemon("server")
        os.kill(record.pid, number)
        until(lambda: Daemon(self._testbed.state, "server").running() is None)
        time.sleep(self._chance.uniform(*self._how.away_s))
        self._testbed.server.start()

    def _words(self, restarts: int) -> str:
        todos = len(self._swept) * self._how.todos + restarts * self._how.workers
        runs = sum(line.starts for line in lines_of(ledger_of(self._testbed)))
        return (
            f"{restarts} restarts (half of them SIGKILL), {todos} todos, {runs} body runs; "
            f"all workers consume again {spread(self._probes.after_s)}, seed {self._how.seed}"
        )
