"""A lock that nobody else wants, acquired and released: round after round beside redis-py's."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from redis import Redis

from benchmarks.clock import seconds
from benchmarks.of_locks.contest import SYSTEMS, Enter
from coordination.backend.client import Profile, connect

ROUNDS, PAIRS = 60, 100

Took = dict[str, float]


def uncontended(url: str) -> tuple[Took, float, Took]:
    """Median seconds of a pair by system; how many times as fast coord is, the median of rounds side by side;
    CPU seconds of a pair.

    The CPU time is that of the client and of the server: what a busy machine does to it is little.
    """
    enters = {system: make(url, f"alone of {system}") for system, make in SYSTEMS.items()}
    took: dict[str, list[float]] = {system: [] for system in SYSTEMS}
    cpu = dict.fromkeys(SYSTEMS, 0.0)
    with connect(url, Profile.WORKER) as client:
        for number in range(-1, ROUNDS):
            for system in sorted(SYSTEMS, reverse=bool(number % 2)):
                before_s = _cpu_s(client)
                took_s = seconds(_pairs(enters[system]))
                if number >= 0:  # the first is for connections and scripts
                    took[system].append(took_s / PAIRS)
                    cpu[system] += (_cpu_s(client) - before_s) / PAIRS / ROUNDS
    ratio = median(theirs / ours for ours, theirs in zip(took["coord"], took["redis-py"], strict=True))
    return {system: median(its) for system, its in took.items()}, ratio, cpu


def _pairs(enter: Enter) -> Callable[[], None]:
    def deed() -> None:
        for _ in range(PAIRS):
            with enter():
                pass

    return deed


def _cpu_s(client: Redis) -> float:
    its = client.info("cpu")
    return time.process_time() + float(its["used_cpu_user"]) + float(its["used_cpu_sys"])
