"""Contenders, each a process, that want one lock all the time: how fairly and how fast it goes from hand to
hand.

The holders count themselves: each raises a flag in memory that all share while it is inside, and counts the
flags when it comes and when it goes. Their times are of one clock, which all processes of a machine share.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from multiprocessing.connection import Connection
from statistics import mean, median, quantiles
from typing import Any, NamedTuple

from coordination.backend.client import Profile, connect
from coordination.locks import LockManager

TTL_S, WAIT_S = 10, 60
SPAWN = multiprocessing.get_context("spawn")

Enter = Callable[[], AbstractContextManager[object]]


class Turn(NamedTuple):
    """ns of the clock."""

    asked: int
    entered: int
    leaving: int


@dataclass(frozen=True)
class Figures:
    grants: list[int]
    """of each contender"""
    peak: int
    jain: float
    longest_waits_s: list[float]
    """of each contender"""
    fair_share_s: float
    """contenders x (hold as it was + median hand-over)"""
    hand_over_s: list[float]
    throughput: float
    """of the time from the first to the last turn that it was held"""
    hold_s: float

    def hand_over(self, percent: int) -> float:
        return quantiles(self.hand_over_s, n=100, method="inclusive")[percent - 1]


def coord(url: str, name: str, priority: int = 0) -> Enter:
    manager = LockManager(connect(url, Profile.WORKER), "bench")
    ttl, wait = timedelta(seconds=TTL_S), timedelta(seconds=WAIT_S)
    return lambda: manager.acquire(name, ttl=ttl, wait=wait, priority=priority)


def redis_py(url: str, name: str, priority: int = 0) -> Enter:
    """With its defaults: who does not get it asks again every 0.1 s. It knows no priorities."""
    client = connect(url, Profile.WORKER)
    return lambda: client.lock(name, timeout=TTL_S, blocking_timeout=WAIT_S)


SYSTEMS = {"coord": coord, "redis-py": redis_py}


def contest(url: str, system: str, *, priorities: Sequence[int], hold_s: float, seconds: float) -> Figures:
    """One contender for each priority."""
    contenders = len(priorities)
    inside, start = SPAWN.RawArray("b", contenders), SPAWN.Barrier(contenders)
    pipes, processes = [], []
    for number, priority in enumerate(priorities):
        ours, theirs = SPAWN.Pipe()
        args = (theirs, url, system, number, priority, inside, start, hold_s, seconds)
        processes.append(SPAWN.Process(target=_contend, args=args))
        processes[-1].start()
        pipes.append(ours)
    told = [pipe.recv() for pipe in pipes]
    for process in processes:
        process.join()
    return _figures([turns for turns, _ in told], max(peak for _, peak in told))


def _contend(
    pipe: Connection,
    url: str,
    system: str,
    number: int,
    priority: int,
    inside: Any,
    start: Any,
    hold_s: float,
    seconds: float,
) -> None:
    enter = SYSTEMS[system](url, f"contest of {system}", priority)
    turns, peak = [], 0
    start.wait()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        asked = time.monotonic_ns()
        with enter():
            entered = time.monotonic_ns()
            inside[number] = 1
            peak = max(peak, sum(inside))
            time.sleep(hold_s)
            peak = max(peak, sum(inside))
            inside[number] = 0
            leaving = time.monotonic_ns()
        turns.append(Turn(asked, entered, leaving))
    pipe.send((turns, peak))


def _figures(of_each: Sequence[Sequence[Turn]], peak: int) -> Figures:
    turns = sorted((turn for its in of_each for turn in its), key=lambda turn: turn.entered)
    grants = [len(its) for its in of_each]
    hold_s = mean(turn.leaving - turn.entered for turn in turns) / 1e9
    hand_over_s = [(after.entered - before.leaving) / 1e9 for before, after in pairwise(turns)]
    span_s = (turns[-1].leaving - turns[0].entered) / 1e9
    return Figures(
        grants=grants,
        peak=max(peak, 2 if min(hand_over_s) < 0 else 1),
        jain=sum(grants) ** 2 / (len(grants) * sum(n * n for n in grants)),
        longest_waits_s=[max((turn.entered - turn.asked) / 1e9 for turn in its) for its in of_each],
        fair_share_s=len(grants) * (hold_s + median(hand_over_s)),
        hand_over_s=hand_over_s,
        throughput=len(turns) * hold_s / span_s,
        hold_s=hold_s,
    )
