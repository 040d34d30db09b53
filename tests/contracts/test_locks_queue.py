"""Queues of locks: the order of waiting threads and processes. Any order of events: test_locks_machine.py."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
import redis

from coordination.backend.steps.lock import Queued
from coordination.errors import LockTimeout
from coordination.locks import Lock, LockManager, Owner
from tests.lock_players import LONG, begin
from tests.lock_requests import ask
from tests.waiting import until

ONCE = timedelta(0)


class Line:
    """Waiters that came one after the other, and in which order they were granted the lock."""

    def __init__(self, locks: LockManager, client: redis.Redis) -> None:
        self._locks, self._client = locks, client
        self._threads: list[threading.Thread] = []
        self.order: list[str] = []

    def join(self, label: str, *names: str, priority: int = 0) -> None:
        places = {name: self._client.zcard(f"test:lock-queue:lock:{name}") for name in names}
        self._threads.append(threading.Thread(target=self._wait, args=(label, names, priority)))
        self._threads[-1].start()
        until(
            lambda: any(self._client.zcard(f"test:lock-queue:lock:{name}") > n for name, n in places.items())
        )

    def _wait(self, label: str, names: tuple[str, ...], priority: int) -> None:
        with self._locks.acquire_many(names, wait=LONG, priority=priority):
            self.order.append(label)

    def end(self) -> list[str]:
        for thread in self._threads:
            thread.join()
        return self.order


@pytest.fixture
def line(locks: LockManager, client: redis.Redis) -> Line:
    return Line(locks, client)


def test_a_long_wait_goes_before_a_higher_priority(locks: LockManager, client: redis.Redis, line: Line):
    with locks.acquire("x"):
        line.join("old", "x")
        aged = client.zrange("test:lock-queue:lock:x", 0, 0)[0]
        # as if it had come 10 s ago: a step of priority is worth 5 s
        client.zincrby("test:lock-queue:lock:x", -10_000_000, aged)
        client.hincrby(f"test:lock-request:{aged}", "rank", -10_000_000)
        line.join("urgent", "x", priority=1)
        line.join("most urgent", "x", priority=4)
    assert line.end() == ["most urgent", "old", "urgent"]


def test_the_release_itself_hands_over(locks: LockManager, client: redis.Redis):
    lock = locks.acquire("x")
    assert isinstance(ask(client, "next", "x lock:x", party="party"), Queued)

    lock.release()

    assert client.get("test:lock:x") == "next"
    word, fence, epoch, _ = client.lrange("test:lock-wake:next", 0, -1)[0].split()
    assert (word, int(epoch)) == ("held", lock.epoch)
    assert int(fence) > lock.fence


def test_a_killed_waiter_delays_those_behind_it_by_seconds(
    locks: LockManager, client: redis.Redis, redis_url: str, line: Line
):
    lock = locks.acquire("x")
    dead = begin(redis_url, "x", 600_000)
    until(lambda: client.zcard("test:lock-queue:lock:x") == 1)
    dead.kill()
    dead.communicate()
    line.join("alive", "x")

    lock.release()

    assert line.end() == ["alive"]


def test_the_cost_of_a_hand_over_grows_with_the_names(locks: LockManager, client: redis.Redis):
    names = [f"n{i}" for i in range(100)]
    held = locks.acquire_many(names)
    waiters = [
        threading.Thread(target=lambda: locks.acquire_many(names, wait=LONG).release()) for _ in range(4)
    ]
    for waiter in waiters:
        waiter.start()
    until(lambda: client.zcard("test:lock-queue:lock:n99") == len(waiters))
    client.config_resetstat()
    held.release()
    for waiter in waiters:
        waiter.join()

    calls = sum(command["calls"] for command in client.info("commandstats").values())
    assert calls < 100 * len(names) * len(waiters), calls


@pytest.mark.parametrize("listens", [True, False], ids=["before it listens", "after it listened"])
def test_a_lock_handed_over_to_a_stopped_thread_expires(
    locks: LockManager, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, listens: bool
):
    held = locks.acquire("x")
    others = LockManager(client, "test", owner=Owner(host="anvil", pid=1, started="then", thread=1))
    send = locks._core.line.send
    taken: list[Lock] = []

    def stopped(*words: str, **how: float) -> object:
        if words[0] == "BLPOP" and not taken:
            held.release()  # the lock is handed over, and kept for 200 ms
            taken.append(others.acquire("x", wait=LONG))
            return send(*words, **how) if listens else None
        return send(*words, **how)

    monkeypatch.setattr(locks._core.line, "send", stopped)
    with pytest.raises(LockTimeout):
        locks.acquire("x", ttl=timedelta(milliseconds=200), wait=timedelta(seconds=2))

    taken[0].check()
    taken[0].release()
    others.close()
