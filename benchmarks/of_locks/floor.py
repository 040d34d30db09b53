"""Measures the lower bound of a hand-over on this machine: from an RPUSH to the process that a BLPOP of that
list wakes.
"""

from __future__ import annotations

import time
from multiprocessing.connection import Connection

from benchmarks.of_locks.contest import SPAWN
from coordination.backend.client import Profile, connect

WAKES, BETWEEN_S = 1000, 0.01
LIST = "floor"


def floor(url: str) -> list[float]:
    """Seconds of each wake-up. They are as far apart as those of a contest, so that the processors have gone
    to sleep.
    """
    ours, theirs = SPAWN.Pipe()
    sleeper = SPAWN.Process(target=_sleep, args=(theirs, url))
    sleeper.start()
    ours.recv()
    with connect(url, Profile.WORKER) as client:
        for _ in range(WAKES):
            time.sleep(BETWEEN_S)
            client.rpush(LIST, time.monotonic_ns())
    took: list[float] = ours.recv()
    sleeper.join()
    return took


def _sleep(pipe: Connection, url: str) -> None:
    took = []
    with connect(url, Profile.READER) as client:
        client.ping()
        pipe.send("ready")
        for _ in range(WAKES):
            _, pushed = client.blpop([LIST])
            took.append((time.monotonic_ns() - int(pushed)) / 1e9)
    pipe.send(took)
