"""Redis is restarted and killed under load, with its append-only file, and workers go on without having been started again."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass

from coordination.wire.daemon import Daemon
from coordination.wire.keys import Keys
from tests.chaos.crew import ACTION, Crew, Watch, begin, dag, ledger_of, straight
from tests.chaos.figures import Figures, spread
from tests.chaos.grounds import grounds
from tests.chaos.record import lines_of
from tests.stage import PLAN, Stage
from tests.waiting import until

FAULT = "Redis restarted or killed"
DOES = "every 5 to 40 s SIGTERM or SIGKILL to Redis, which is away for up to 5 s; load on 4 workers all the time"
CONSUME_WITHIN_S = 10.0
PROBE = "PLAN-002"


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
    with grounds() as stage:
        return suffer(stage, Restarts(seconds=60 * minutes, seed=random.randrange(10**6)))


def suffer(stage: Stage, how: Restarts) -> Figures:
    chance = random.Random(how.seed)
    load_ = dag(how.todos, how.repos, chance, env={"LASTS": str(how.lasts_s)})
    probes = [{"id": f"P{n}", "repo": f"p{n}", "plan": PROBE, "action": ACTION} for n in range(how.workers)]
    stage.write([*load_, *probes], plans=[{"id": PROBE, "title": "who consumes"}])
    common = [f"r{n:02}" for n in range(how.repos)]
    served = [[word for repo in (*common, f"p{n}") for word in ("--repo", repo)] for n in range(how.workers)]
    url = stage.server.start()
    crew = Crew(stage, url, how.workers, served=served)
    crew.ready()
    return _Trial(stage, url, crew, how, chance).run()


class _Trial:
    def __init__(self, stage: Stage, url: str, crew: Crew, how: Restarts, chance: random.Random) -> None:
        self._stage, self._crew, self._how, self._chance = stage, crew, how, chance
        self._url = url
        self._watch = Watch(stage, straight(stage))
        self._swept: list[str] = []
        self._probes: list[str] = []
        self._back_after_s: list[float] = []
        self._done: list[str] = []
        self.wrong: list[str] = []

    def run(self) -> Figures:
        end = time.monotonic() + self._how.seconds
        restarts = 0
        while time.monotonic() < end:
            self._load_until(time.monotonic() + self._chance.uniform(*self._how.every_s))
            self._restart((signal.SIGTERM, signal.SIGKILL)[restarts % 2])
            restarts += 1
            self._probe(time.time())
            self.wrong += self._crew.restart_ended()
        runs = [*self._swept, *self._probes]
        self.wrong += self._watch.until_over(runs, 120)
        return Figures(measured=self._words(restarts), wrong=self.wrong)

    def _load_until(self, until_s: float) -> None:
        """There is always a run under way."""
        while time.monotonic() < until_s:
            if not self._swept or self._watch.over(self._swept[-1]):
                self._swept.append(self._sweep(PLAN, ("levels", "dataflow")[len(self._swept) % 2]))
            time.sleep(0.1)

    def _sweep(self, plan: str, strategy: str = "dataflow") -> str:
        return begin(self._stage, self._url, plan, strategy)

    def _restart(self, number: signal.Signals) -> None:
        record = self._stage.daemon("server")
        os.kill(record.pid, number)
        until(lambda: Daemon(self._stage.state, "server").running() is None, 30)
        time.sleep(self._chance.uniform(*self._how.away_s))
        self._stage.server.start()

    def _probe(self, back_at_s: float) -> None:
        """When each worker takes a todo that only it can take."""
        run = self._sweep(PROBE)
        self._probes.append(run)
        until(lambda: self._watch.over(run), 60)
        with self._stage.redis() as redis:
            facts = redis.hgetall(Keys("coord").run(run).facts)
        for number in range(self._how.workers):
            after_s = int(facts[f"P{number} started_at"]) / 1000 - back_at_s
            self._back_after_s.append(after_s)
            if after_s > CONSUME_WITHIN_S:
                self.wrong.append(f"{run}: worker {number} consumed {after_s:.1f} s after Redis was back")

    def _words(self, restarts: int) -> str:
        todos = len(self._swept) * self._how.todos + len(self._probes) * self._how.workers
        runs = sum(line.starts for line in lines_of(ledger_of(self._stage)))
        return (
            f"{restarts} restarts (half of them SIGKILL), {todos} todos, {runs} body runs; all workers consume again "
            f"{spread(self._back_after_s)}, seed {self._how.seed}"
        )
