"""A process that holds a lock until its input ends, in a fork."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import redis

from coordination.errors import CoordinationError
from coordination.locks import Guard, Lock, LockManager
from tests.fork_client import PipedFork
from tests.testbed import FORKS

LONG = timedelta(minutes=1)


def hold(locks: LockManager, name: str, ttl_ms: int) -> None:
    """Holds it; then writes to its guard and says how that went, for each line of standard input."""
    guard = locks.guard(name)
    lock = locks.acquire(name, ttl=timedelta(milliseconds=ttl_ms), wait=LONG)
    _say(lock.fence)
    for line in sys.stdin:
        _say(_try_to_write(guard, lock, line.strip()))


def _say(word: object) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def _try_to_write(guard: Guard, lock: Lock, value: str) -> str:
    try:
        guard.write(value, lock.fence)
        lock.check()
    except CoordinationError as error:
        return type(error).__name__
    return "written"


def begin(url: str, name: str, ttl_ms: int) -> PipedFork:
    program = "import sys; from tests.lock_holders import main; main(*sys.argv[1:])"
    return FORKS.piped([sys.executable, "-c", program, url, name, str(ttl_ms)], cwd=Path(__file__).parents[1])


def main(url: str, name: str, ttl_ms: str) -> None:
    client = redis.Redis.from_url(url, decode_responses=True)
    hold(LockManager(client, "test"), name, int(ttl_ms))
