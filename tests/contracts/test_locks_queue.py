"""Queues of locks and resources: order, capacity, statistics. Any order of events: test_locks_machine.py."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
import redis

from coordination.errors import LockTimeout, NotFound, UsageError
from coordination.locks import Lock, LockManager, Owner
from coordination.locks.resources import Resources
from tests.lock_holders import LONG, begin
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
    send = locks._core.connection.send
    taken: list[Lock] = []

    def stopped(*words: str, **how: float) -> object:
        if words[0] == "BLPOP" and not taken:
            held.release()  # the lock is handed over, and kept for 200 ms
            taken.append(others.acquire("x", wait=LONG))
            return send(*words, **how) if listens else None
        return send(*words, **how)

    monkeypatch.setattr(locks._core.connection, "send", stopped)
    with pytest.raises(LockTimeout):
        locks.acquire("x", ttl=timedelta(milliseconds=200), wait=timedelta(seconds=2))

    taken[0].check()
    taken[0].release()
    others.close()


@pytest.fixture
def resources(locks: LockManager) -> Resources:
    locks.resources.declare({"gpu": 3, "db": 1})
    return locks.resources


def test_never_more_is_in_use_than_there_is(resources: Resources, client: redis.Redis):
    def work(amount: int) -> None:
        for _ in range(15):
            with resources.acquire("gpu", amount, wait=LONG):
                client.rpush("seen", client.incrby("used", amount))
                client.decrby("used", amount)

    players = [threading.Thread(target=work, args=(amount,)) for amount in (1, 1, 1, 2, 2, 3, 1, 2)]
    for player in players:
        player.start()
    for player in players:
        player.join()

    seen = list(map(int, client.lrange("seen", 0, -1)))
    assert len(seen) == 8 * 15
    assert 1 < max(seen) <= 3
    assert resources.stats("gpu").used == 0


def test_several_resources_are_acquired_together_or_not_at_all(resources: Resources):
    with resources.acquire("db"):
        with pytest.raises(LockTimeout, match="db is held by"):
            resources.acquire_many({"gpu": 3, "db": 1}, wait=ONCE)
        resources.acquire("gpu", 3, wait=ONCE).release()
    with resources.acquire_many({"gpu": 3, "db": 1}) as lock:
        assert lock.names == ("gpu", "db")


def test_what_can_never_be_had_is_refused_at_once(resources: Resources):
    with pytest.raises(UsageError, match="capacity of 3"):
        resources.acquire("gpu", 4)
    with pytest.raises(UsageError, match="no resource tpu"):
        resources.acquire("tpu")
    with pytest.raises(NotFound, match="no resource tpu"):
        resources.stats("tpu")


def test_a_waiter_for_more_than_the_shrunken_capacity_is_refused(resources: Resources, client: redis.Redis):
    came: list[str] = []

    def wait() -> None:
        with pytest.raises(UsageError) as refused:
            resources.acquire("gpu", 3, wait=LONG)
        came.append(refused.value.message)

    with resources.acquire("gpu"):
        waiter = threading.Thread(target=wait)
        waiter.start()
        until(lambda: client.zcard("test:lock-queue:resource:gpu"))
        resources.declare({"gpu": 2})
        waiter.join(60)

    assert came == ["gpu has a capacity of 2, less than requested"]
    assert not client.exists("test:lock-queue:resource:gpu")


def test_a_resource_that_grows_goes_to_whoever_waits(resources: Resources, client: redis.Redis):
    with resources.acquire("db"):
        waiter = threading.Thread(target=lambda: resources.acquire("db", wait=LONG).release())
        waiter.start()
        until(lambda: client.zcard("test:lock-queue:resource:db"))
        resources.declare({"db": 2})
        waiter.join()


def test_the_statistics_of_a_resource_show_its_use_and_waits(resources: Resources, client: redis.Redis):
    assert resources.stats("gpu").utilisation == 0

    with resources.acquire("gpu", 3):
        waiter = threading.Thread(target=lambda: resources.acquire("gpu", wait=LONG).release())
        waiter.start()
        until(lambda: resources.stats("gpu").longest_wait_s > 0.05)
        busy = resources.stats("gpu")
    waiter.join()

    assert (busy.capacity, busy.used, busy.waiting, busy.granted) == (3, 3, 1, 1)
    assert 0 < busy.utilisation <= 1
    after = resources.stats("gpu")
    assert (after.used, after.waiting, after.granted) == (0, 0, 2)
    assert after.longest_wait_s >= busy.longest_wait_s
    assert after.mean_wait_s == pytest.approx(after.longest_wait_s / 2)
    assert set(resources.all_stats()) == {"gpu", "db"}
