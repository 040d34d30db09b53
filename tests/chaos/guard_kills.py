"""Guards are killed over children that have left everything: environment, session and process group."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.figures import Figures
from tests.chaos.ledger import BODY
from tests.chaos.workers import NO_POISON, Watch, WorkerGroup, begin, dag, straight
from tests.testbed import Testbed, temporary_testbed
from tests.waiting import until

FAULT = "guard killed"
DOES = (
    "SIGKILL to a random guard every second, over children started with env -i setsid, "
    "until 150 todos are done"
)
MARK = b"guard.main("
CHILD = 'while :; do echo "$1 $2 $(date +%s%N)" >> "$3"; sleep 0.05; done'
"""It writes down that it lives: todo, fence, nanoseconds."""
ACTION = [
    "sh",
    "-c",
    (
        f'env -i setsid sh -c \'{CHILD}\' child "$COORD_TODO_ID" "$COORD_FENCE" "$STRAYS" <&- >/dev/null 2>&1'
        f" & exec sh '{BODY}'"
    ),
]


@dataclass(frozen=True, kw_only=True)
class GuardKills:
    todos: int = 150
    repos: int = 15
    workers: int = 4
    every_s: float = 1.0
    kills: int = 1000
    lasts_s: float = 0.4
    seed: int = 0
    patience_s: float = 1200


def main(_minutes: float) -> Figures:
    with temporary_testbed() as testbed:
        return kill_guards(testbed, GuardKills(seed=random.randrange(10**6)))


def kill_guards(testbed: Testbed, how: GuardKills) -> Figures:
    chance = random.Random(how.seed)
    strays = testbed.folder / "strays"
    testbed.settings = {**NO_POISON, "lease_ttl": "5s", "retry_attempts": 100, "retry_delay": "100ms"}
    env = {"LASTS": str(how.lasts_s), "STRAYS": str(strays)}
    testbed.write([{**todo, "action": ACTION} for todo in dag(how.todos, how.repos, chance, env=env)])
    url = testbed.server.start()
    group = WorkerGroup(testbed, [url] * how.workers)
    group.ready()
    watch = Watch(testbed, straight(testbed))
    run, wrong, killed = begin(testbed, url), [], 0
    due = time.monotonic() + how.every_s

    def fate() -> None:
        nonlocal due, killed
        if time.monotonic() >= due and killed < how.kills:
            killed += _kill_one(group, chance)
            due = time.monotonic() + how.every_s
        wrong.extend(group.restart_ended())

    wrong += watch.until_over([run], how.patience_s, fate)
    wrong += _overlaps(strays)
    before = strays.stat().st_size if strays.exists() else 0
    with suppress(AssertionError):  # a live process writes 20 lines a second
        until(lambda: strays.stat().st_size > before, 2)
        wrong.append(f"{run}: a child outlived its todo: {strays.read_text().splitlines()[-1]}")
    if watch.status(run) != "succeeded":
        wrong.append(f"{run} is {watch.status(run)}")
        wrong += watch.errors(run)
    return Figures(measured=f"{how.todos} todos, {killed} guards killed, seed {how.seed}", wrong=wrong)


def _kill_one(group: WorkerGroup, chance: random.Random) -> int:
    guards = list(_guards({worker.pid for worker in group.workers}))
    with suppress(ProcessLookupError, IndexError):
        os.kill(chance.choice(guards), signal.SIGKILL)
        return 1
    return 0


def _guards(workers: set[int]) -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if parent in workers and MARK in (process / "cmdline").read_bytes():
                yield int(process.name)


def _overlaps(strays: Path) -> Iterator[str]:
    """A child of an older attempt that was alive when a newer one had begun."""
    lives: defaultdict[str, defaultdict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for line in strays.read_text().splitlines() if strays.exists() else ():
        todo, fence, at_ns = line.split()
        lives[todo][int(fence)].append(int(at_ns))
    for todo, fences in lives.items():
        ordered = sorted(fences)
        for older, newer in itertools.pairwise(ordered):
            if max(fences[older]) > min(fences[newer]):
                late_ms = (max(fences[older]) - min(fences[newer])) // 1_000_000
                yield (
                    f"{todo}: a child of fence {older} was alive {late_ms} ms after one of fence "
                    f"{newer} had begun"
                )
