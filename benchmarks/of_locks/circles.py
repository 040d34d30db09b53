"""Circles of threads that wait for each other, planted on a real server; and graphs without a circle, which
must raise no alarm.

Each thread of a circle holds a lock and asks for the next one's, all of them within half a second in any
order. The time runs from when the last of them asked to when one of them is told to give way.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from benchmarks.of_locks.contest import SPAWN
from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys
from coordination.backend.step_connection import StepCaller
from coordination.backend.steps.lock import Acquire, Queued
from coordination.errors import DeadlockError, LockTimeout
from coordination.locks import LockManager
from coordination.locks.deadlock import Detector
from tests.unit.locks.test_wait_graph import Draft, acyclic, planted

LENGTHS = range(2, 11)
PROCESSES, AT_ONCE = 2, 12
TTL, WAIT = timedelta(seconds=30), timedelta(seconds=30)
WITHIN_S, LONGEST_S = 0.5, 1.5
HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Resolved:
    length: int
    victims: int
    in_vain: int
    """waits that ended with neither the lock nor a verdict"""
    took_s: float


def circles(url: str, count: int) -> list[Resolved]:
    """In batches: as many at once as the machine has patience for."""
    batches = [range(at, min(at + AT_ONCE, count)) for at in range(0, count, AT_ONCE)]
    with ProcessPoolExecutor(PROCESSES, mp_context=SPAWN) as pool:
        return [found for batch in pool.map(partial(_batch, url), batches) for found in batch]


def _batch(url: str, numbers: Sequence[int]) -> list[Resolved]:
    manager = LockManager(connect(url, Profile.WORKER), "circles")
    with closing(manager), ThreadPoolExecutor(len(numbers)) as pool:
        return list(pool.map(partial(_circle, manager), numbers))


def _circle(manager: LockManager, number: int) -> Resolved:
    chance = random.Random(number)
    length = LENGTHS[number % len(LENGTHS)]
    begun, asked = threading.Barrier(length), [0.0] * length
    told: list[float | None] = [None] * length
    in_vain = []

    def take_part(place: int, after_s: float) -> None:
        try:
            with manager.acquire(f"{number} {place}", ttl=TTL):
                begun.wait()
                time.sleep(after_s)
                asked[place] = time.monotonic()
                with manager.acquire(f"{number} {(place + 1) % length}", ttl=TTL, wait=WAIT):
                    pass
        except DeadlockError:
            told[place] = time.monotonic()
        except LockTimeout:
            in_vain.append(place)

    threads = [
        threading.Thread(target=take_part, args=(i, chance.uniform(0, WITHIN_S))) for i in range(length)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    when = [at for at in told if at is not None]
    return Resolved(length, len(when), len(in_vain), min(when, default=float("inf")) - max(asked))


def judged(graphs: int, with_circle: int) -> tuple[int, int]:
    """How many false alarms the decision alone gives, and how many planted circles it finds: it must be able
    to.
    """
    chance = random.Random(5)
    alarms = sum(_alarm(acyclic(chance)) for _ in range(graphs))
    found = sum(_alarm(planted(chance, LENGTHS[i % len(LENGTHS)])) for i in range(with_circle))
    return alarms, found


def _alarm(draft: Draft) -> bool:
    graph = draft.graph()
    return any(graph.deadlock(request) for request in draft.waiting)


def judged_on_server(url: str, graphs: int) -> tuple[int, int]:
    """The same for graphs that stand in Redis, looked at by each who waits. Returns (looks, false alarms)."""
    chance, looks, alarms = random.Random(6), 0, 0
    with connect(url, Profile.WORKER) as client:
        for number in range(graphs):
            keys = Keys(f"acyclic-{number}").locks
            caller = StepCaller(client)
            for request in _put(caller, keys.head, acyclic(chance)):
                looks += 1
                try:
                    Detector(caller, keys).look(request)
                except DeadlockError:
                    alarms += 1
                alarms += client.exists(keys.wake(request))  # the verdict of another
    return looks, alarms


def _put(caller: StepCaller, head: str, draft: Draft) -> list[str]:
    """Each request of the draft in its order; those that wait in the end."""
    waiting = []
    for request in draft.requests:
        wants = "\n".join(
            f"{w.mode if w.mode in 'xs' else f'{w.amount}/9'} lock:{w.name}" for w in request.wants
        )
        step = Acquire(
            request=request.id, wants=wants, ttl_ms=HOUR_MS, priority=0, place_ms=HOUR_MS, rank="",
            party=request.party, description=(),
        )  # fmt: skip
        if isinstance(caller(step, [head]), Queued):
            waiting.append(request.id)
    return waiting
