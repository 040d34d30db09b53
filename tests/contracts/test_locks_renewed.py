"""Renewal: a lock lasts as long as its holder lives, and the holder learns of a loss by its own clock."""

from __future__ import annotations

import os
import signal
import threading
from datetime import timedelta
from functools import partial

import pytest
import redis

from coordination import durations
from coordination.errors import LockLost, LockTimeout, UsageError
from coordination.locks import Lock, LockManager
from tests.lock_players import LONG, begin
from tests.waiting import until

ONCE = timedelta(0)
SHORT = timedelta(milliseconds=200)


def test_one_thread_renews_all_locks_of_a_manager_each_in_time(locks: LockManager):
    before = set(threading.enumerate())
    locks.acquire("long", ttl=timedelta(hours=1))
    held = [locks.acquire(f"x{i}", ttl=timedelta(seconds=6)) for i in range(20)]
    first = [lock.deadline_s for lock in held]
    until(lambda: all(lock.deadline_s > since + 0.4 for lock, since in zip(held, first, strict=True)))

    assert not any(lock.lost.is_set() for lock in held)
    assert sum(thread.name == "lock-renewal" for thread in set(threading.enumerate()) - before) == 1
    with pytest.raises(LockTimeout):
        locks.acquire("x0", wait=ONCE)


def test_a_lock_that_is_renewed_by_hand_expires_without_it(locks: LockManager, client: redis.Redis):
    lock = locks.acquire("x", ttl=timedelta(seconds=2), keep=False)
    assert lock.renew()
    until(lambda: not client.exists("test:lock:x"))

    assert not lock.renew()
    assert lock.lost.is_set()


def test_the_holder_is_told_that_its_lock_is_lost(locks: LockManager, client: redis.Redis):
    lock = locks.acquire("x", ttl=SHORT)
    client.flushall()

    assert lock.lost.wait(60)
    assert lock.remaining_s == 0
    with pytest.raises(LockLost):
        lock.check()


def test_after_a_sleep_of_the_machine_a_lock_is_lost(locks: LockManager, monkeypatch: pytest.MonkeyPatch):
    lock = locks.acquire("x", ttl=timedelta(seconds=10))
    asleep = durations.now_s
    monkeypatch.setattr("coordination.locks.lock.now_s", lambda: asleep() + 3600)

    assert lock.remaining_s == 0
    with pytest.raises(LockLost):
        lock.check()


def test_a_killed_holder_keeps_others_out_for_its_ttl_at_most(locks: LockManager, redis_url: str):
    holder = begin(redis_url, "x", 3000)
    fence = int(holder.stdout.readline())
    with pytest.raises(LockTimeout):
        locks.acquire("x", wait=ONCE)

    holder.kill()
    holder.communicate()

    with locks.acquire("x", wait=LONG) as lock:
        assert lock.fence > fence


def test_a_stopped_holder_writes_nothing_when_it_goes_on(locks: LockManager, redis_url: str):
    holder = begin(redis_url, "x", 200)
    holder.stdout.readline()
    os.kill(holder.pid, signal.SIGSTOP)
    try:
        lock = locks.acquire("x", wait=LONG)  # as soon as its ttl is over
        holder.stdin.write("too late\n")
        holder.stdin.flush()
    finally:
        os.kill(holder.pid, signal.SIGCONT)

    assert holder.stdout.readline().strip() == "StaleFence"
    guard = locks.guard("x")
    assert guard.read() == (None, 0)
    assert guard.refused == 1
    guard.write("in time", lock.fence)
    assert guard.read() == ("in time", lock.fence)
    holder.communicate()


def test_a_child_process_renews_its_own_and_not_its_parents(locks: LockManager):
    ttl = timedelta(seconds=3)
    parents = locks.acquire("parents", ttl=ttl)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            own = locks.acquire("own", ttl=ttl)
            first = own.deadline_s
            until(lambda: own.deadline_s > first)
            own.release()
            code = 0
        finally:
            os._exit(code)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    parents.check()


@pytest.mark.parametrize("keep", [True, False], ids=["renewed", "by hand"])
def test_a_child_process_holds_and_releases_no_lock_of_its_parent(locks: LockManager, keep: bool):
    with locks.acquire("x", keep=keep) as lock:
        child = os.fork()
        if child == 0:
            os._exit(_beliefs_of_a_child(lock))

        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        lock.check()
        assert lock.renew()


def _beliefs_of_a_child(lock: Lock) -> int:
    """0 where it takes nothing for its own."""
    believes = lock.remaining_s > 0 or lock.renew()
    for operation in (lock.check, lock.release, partial(lock.__exit__, None, None, None)):
        try:
            operation()
            believes = True
        except LockLost:
            pass
    return int(believes)


def test_a_closed_manager_renews_and_grants_nothing(locks: LockManager, client: redis.Redis):
    held = locks.acquire("x")
    locks.acquire("short", ttl=SHORT)
    locks.close()
    for call in (lambda: locks.acquire("y"), lambda: locks.acquire_many(["y"], keep=False)):
        with pytest.raises(UsageError, match="closed"):
            call()
    held.release()
    locks.close()
    until(lambda: not client.keys("test:lock:*"))
