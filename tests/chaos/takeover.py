"""Take-over: from a worker's SIGKILL to the next attempt of what it ran, with the default lease of 15 s."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

from coordination.settings import Settings
from tests.chaos.crew import ACTION, Crew, Watch, begin, ledger_of, straight
from tests.chaos.figures import Figures, quantile, spread
from tests.chaos.grounds import grounds
from tests.chaos.ledger import Record
from tests.chaos.record import lines_of, record
from tests.stage import Fields, Stage
from tests.waiting import until

FAULT = "worker killed"
DOES = "SIGKILL to a worker that runs 4 todos, 28 times: 112 todos are taken over by the others"
LATER_S = 2.0
BETWEEN_S = (0.3, 2.0)
JOBS = 4


@dataclass(frozen=True, kw_only=True)
class TakeOver:
    rounds: int = 4
    workers: int = 8
    """All but one are killed in each round."""
    settings: Fields
    seed: int = 0


def main(_minutes: float) -> Figures:
    with grounds() as stage:
        return take_over(stage, TakeOver(settings={}, seed=random.randrange(10**6)))


def take_over(stage: Stage, how: TakeOver) -> Figures:
    """Each round: todos that hang in their first attempt on all workers but one, which are killed one after the other."""
    chance = random.Random(how.seed)
    size = (how.workers - 1) * JOBS
    stage.settings = dict(how.settings)
    stage.write([_hangs(number) for number in range(size)])
    url = stage.server.start()
    crew = Crew(stage, [url] * how.workers, jobs=JOBS)
    crew.ready()
    watch = Watch(stage, straight(stage))
    wrong: list[str] = []
    after_s: list[float] = []
    for _ in range(how.rounds):
        run = begin(stage, url)
        until(lambda: len(lines_of(ledger_of(stage))) >= size, 120)
        kills = _kill(crew, watch, run, chance)
        wrong += watch.until_over([run], 180)
        with stage.redis() as redis:
            after_s += _delays(record(redis, run), kills)
        ledger_of(stage).rename(ledger_of(stage).with_suffix(f".{run}"))
    lease_s = Settings(**how.settings).lease_ttl.total_seconds()
    if quantile(after_s, 0.99) > lease_s + LATER_S:
        wrong.append(f"taken over {quantile(after_s, 0.99):.1f} s after the kill (p99), and the lease is {lease_s:g} s")
    words = f"{crew.killed} kills; next attempt {spread(after_s)}, with a lease of {lease_s:g} s, seed {how.seed}"
    return Figures(measured=words, wrong=wrong)


def _hangs(number: int) -> Fields:
    return {"id": f"T{number:03}", "repo": f"r{number:03}", "action": ACTION, "env": {"HANGS": "1"}}


def _kill(crew: Crew, watch: Watch, run: str, chance: random.Random) -> dict[str, float]:
    """Todo → when the worker that ran it was killed."""
    workers = watch.workers(run)
    kills = {}
    for number, worker in enumerate(crew.workers):
        its = [todo for todo, name in workers.items() if name.startswith(f"coord-{worker.pid}@")]
        if its:
            kills.update(dict.fromkeys(its, crew.kill(number)))
            time.sleep(chance.uniform(*BETWEEN_S))
    return kills


def _delays(run: Record, kills: dict[str, float]) -> Iterator[float]:
    for todo, at_s in kills.items():
        yield next(_runnings(run, todo, at_s)) - at_s


def _runnings(run: Record, todo: str, since_s: float) -> Iterator[float]:
    for event in run.events:
        if event.todo == todo and event.what == "todo.running" and event.at_ms / 1000 > since_s:
            yield event.at_ms / 1000
