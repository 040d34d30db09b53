"""Take-over: from a worker's SIGKILL to the next attempt of what it ran, with the default lease of 15 s."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from coordination.settings import Settings
from tests.chaos.figures import Figures, quantile, spread
from tests.chaos.ledger import Record
from tests.chaos.record import lines_of, record
from tests.chaos.workers import ACTION, Watch, WorkerGroup, begin, ledger_of, straight
from tests.testbed import Fields, Testbed, temporary_testbed
from tests.waiting import until
from workers.leases import FOLDER

FAULT = "worker killed"
DOES = (
    "SIGKILL to a worker that runs 4 todos or so, 64 times: "
    "128 todos are taken over by others that see its death on their machine, 128 where they cannot see it, "
    "and its lease has to run out"
)
LATER_S = 2.0
BETWEEN_S = (0.3, 2.0)
JOBS, EACH = 8, 4
"""Slots of a worker, and how many of its todos hang; the free slots of the others take over at once."""


@dataclass(frozen=True, kw_only=True)
class TakeOver:
    rounds: int = 8
    """In every second one the machine does not tell that a worker died."""
    workers: int = 8
    """One half is killed in each round, and once the other has taken over, that one."""
    settings: Fields
    seed: int = 0


def main(_minutes: float) -> Figures:
    with temporary_testbed() as testbed:
        # Each repository loses a worker a round: its circuit breaker would open after five, and keep the next
        # attempt for a minute.
        return take_over(testbed, TakeOver(settings={"breaker_failures": 0}, seed=random.randrange(10**6)))


def take_over(testbed: Testbed, how: TakeOver) -> Figures:
    """In each round todos hang in their first attempt."""
    chance = random.Random(how.seed)
    size = how.workers * EACH
    testbed.settings = dict(how.settings)
    testbed.write([_hangs(number) for number in range(size)])
    url = testbed.server.start()
    group = WorkerGroup(testbed, [url] * how.workers, jobs=JOBS)
    group.ready()
    watch = Watch(testbed, straight(testbed))
    wrong: list[str] = []
    after_s: tuple[list[float], list[float]] = ([], [])
    for number in range(how.rounds):
        run = begin(testbed, url)
        until(lambda: len(lines_of(ledger_of(testbed))) >= size, 120)
        kills: dict[str, float] = {}
        for half in (0, 1):
            group.ready()
            if number % 2:
                _hide(group)
            killed = _kill(group, range(half, how.workers, 2), watch, run, chance)
            ended = lambda k=killed: all(watch.ended(run, todo) for todo in k)  # noqa: B023, E731
            until(ended, 180)  # type: ignore[misc]
            kills |= killed
        wrong += watch.until_over([run], 60)
        with testbed.redis() as redis:
            after_s[number % 2].extend(_delays(record(redis, run), kills))
        ledger_of(testbed).rename(ledger_of(testbed).with_suffix(f".{run}"))
    lease_s = Settings(**how.settings).lease_ttl.total_seconds()
    p99_s = quantile([*after_s[0], *after_s[1]], 0.99)
    late = [f"taken over {p99_s:.1f} s after the kill (p99)"] if p99_s > lease_s + LATER_S else []
    words = (
        f"{group.killed} kills; next attempt {spread(after_s[0])}; "
        f"by the lease of {lease_s:g} s alone {spread(after_s[1])}, seed {how.seed}"
    )
    return Figures(measured=words, wrong=wrong, late=late)


def _hangs(number: int) -> Fields:
    return {"id": f"T{number:03}", "repo": f"r{number:03}", "action": ACTION, "env": {"HANGS": "1"}}


def _hide(group: WorkerGroup) -> None:
    """Hide the processes of the workers, so that their death goes unnoticed as on a machine that is gone."""
    for worker in group.workers:
        for file in (group.testbed.state / FOLDER).glob(f"coord-{worker.pid}@*"):
            file.unlink()


def _kill(
    group: WorkerGroup, numbers: Iterable[int], watch: Watch, run: str, chance: random.Random
) -> dict[str, float]:
    """Todo → when the worker that ran it was killed."""
    workers = {todo: name for todo, name in watch.workers(run).items() if not watch.ended(run, todo)}
    kills = {}
    for number in numbers:
        mark = f"coord-{group.workers[number].pid}@"
        at_s = group.kill(number)
        kills.update({todo: at_s for todo, name in workers.items() if name.startswith(mark)})
        time.sleep(chance.uniform(*BETWEEN_S))
    return kills


def _delays(run: Record, kills: dict[str, float]) -> Iterator[float]:
    for todo, at_s in kills.items():
        yield next(_runnings(run, todo, at_s)) - at_s


def _runnings(run: Record, todo: str, since_s: float) -> Iterator[float]:
    for event in run.events:
        if event.todo == todo and event.what == "todo.running" and event.at_ms / 1000 > since_s:
            yield event.at_ms / 1000
