"""Holders that are stopped (SIGSTOP) for twice their ttl while they write through the lock's guard, and go on
as if nothing had been.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import count
from multiprocessing.connection import Connection

from benchmarks.of_locks.contest import SPAWN
from coordination.backend.client import Profile, connect
from coordination.errors import LockLost, StaleFence
from coordination.locks import LockManager

HOLDERS = 8
TTL = timedelta(milliseconds=200)
NEXT_TTL, WAIT = timedelta(seconds=30), timedelta(seconds=10)
STOPPED_S = 2 * TTL.total_seconds()
PAUSE_S, PATIENCE_S = 0.005, 10.0
NEWEST = "the next holder's"

Write = Callable[[str, int], None]


@dataclass(frozen=True)
class Trial:
    stale_accepted: bool
    """The next holder's write was written over."""
    refused: bool
    """By the guard."""
    told: bool
    """`lost` was set."""
    release_refused: bool
    next_one_kept_it: bool


def frozen(url: str, trials: int) -> list[Trial]:
    with ThreadPoolExecutor(HOLDERS) as pool:
        numbers = (range(first, trials, HOLDERS) for first in range(HOLDERS))
        return [trial for its in pool.map(partial(_with_a_holder, url), numbers) for trial in its]


def _with_a_holder(url: str, numbers: range) -> list[Trial]:
    ours, theirs = SPAWN.Pipe()
    holder = SPAWN.Process(target=_hold, args=(theirs, url))
    holder.start()
    try:
        with closing(_manager(url)) as manager:
            return [_trial(manager, ours, f"frozen {number}", holder.pid or 0) for number in numbers]
    finally:
        ours.send(None)
        holder.join()


def _trial(manager: LockManager, holder: Connection, name: str, pid: int) -> Trial:
    guard = manager.guard(name)
    holder.send(name)
    holder.recv()
    os.kill(pid, signal.SIGSTOP)
    stopped = time.monotonic()
    try:
        lock = manager.acquire(name, ttl=NEXT_TTL, wait=WAIT)
        guard.write(NEWEST, lock.fence)
        time.sleep(max(0, stopped + STOPPED_S - time.monotonic()))
    finally:
        os.kill(pid, signal.SIGCONT)
    refused, told, release_refused = holder.recv()
    stands = guard.read() == (NEWEST, lock.fence)
    kept = lock.renew()
    lock.release()
    return Trial(not stands, refused, told, release_refused, kept)


def _hold(pipe: Connection, url: str) -> None:
    logging.getLogger("coordination.locks").setLevel(logging.ERROR)  # it warns of each, as it should
    manager = _manager(url)
    for name in iter(pipe.recv, None):
        lock = manager.acquire(name, ttl=TTL, wait=WAIT)
        guard = manager.guard(name)
        guard.write("the first", lock.fence)
        pipe.send("writing")
        refused = any(_refusals(guard.write, lock.fence))
        told, release_refused = lock.lost.wait(PATIENCE_S), True
        with suppress(LockLost):
            lock.release()
            release_refused = False
        pipe.send((refused, told, release_refused))


def _refusals(write: Write, fence: int) -> Iterator[bool]:
    """Writes on and on, whether it holds or not: it asks nobody but the guard."""
    end = time.monotonic() + PATIENCE_S
    for number in count():
        try:
            write(f"of the old holder: {number}", fence)
        except StaleFence:
            yield True
        if time.monotonic() > end:
            return
        time.sleep(PAUSE_S)


def _manager(url: str) -> LockManager:
    return LockManager(connect(url, Profile.WORKER), "frozen")
