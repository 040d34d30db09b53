"""Resources: never more than the capacity is in use, and the statistics of their use."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
import redis

from coordination.errors import LockTimeout, NotFound, UsageError
from coordination.locks import LockManager
from tests.lock_players import LONG
from tests.waiting import until

ONCE = timedelta(0)


@pytest.fixture
def locks(locks: LockManager) -> LockManager:
    locks.resources.declare({"gpu": 3, "db": 1})
    return locks


def test_never_more_is_in_use_than_there_is(locks: LockManager, client: redis.Redis):
    def work(amount: int) -> None:
        for _ in range(15):
            with locks.resources.acquire("gpu", amount, wait=LONG):
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
    assert locks.resources.stats("gpu").used == 0


def test_several_resources_are_acquired_together_or_not_at_all(locks: LockManager):
    with locks.resources.acquire("db"):
        with pytest.raises(LockTimeout, match="db is held by"):
            locks.resources.acquire_many({"gpu": 3, "db": 1}, wait=ONCE)
        locks.resources.acquire("gpu", 3, wait=ONCE).release()
    with locks.resources.acquire_many({"gpu": 3, "db": 1}) as lock:
        assert lock.names == ("gpu", "db")


def test_what_can_never_be_had_is_refused_at_once(locks: LockManager):
    with pytest.raises(UsageError, match="capacity of 3"):
        locks.resources.acquire("gpu", 4)
    with pytest.raises(UsageError, match="no resource tpu"):
        locks.resources.acquire("tpu")
    with pytest.raises(NotFound, match="no resource tpu"):
        locks.resources.stats("tpu")


def test_a_waiter_for_more_than_the_shrunken_capacity_is_refused(locks: LockManager, client: redis.Redis):
    came: list[str] = []

    def wait() -> None:
        with pytest.raises(UsageError) as refused:
            locks.resources.acquire("gpu", 3, wait=LONG)
        came.append(refused.value.message)

    with locks.resources.acquire("gpu"):
        waiter = threading.Thread(target=wait)
        waiter.start()
        until(lambda: client.zcard("test:lock-queue:resource:gpu"))
        locks.resources.declare({"gpu": 2})
        waiter.join(60)

    assert came == ["gpu has a capacity of 2, less than requested"]
    assert not client.exists("test:lock-queue:resource:gpu")


def test_a_resource_that_grows_goes_to_whoever_waits(locks: LockManager, client: redis.Redis):
    with locks.resources.acquire("db"):
        waiter = threading.Thread(target=lambda: locks.resources.acquire("db", wait=LONG).release())
        waiter.start()
        until(lambda: client.zcard("test:lock-queue:resource:db"))
        locks.resources.declare({"db": 2})
        waiter.join()


def test_the_statistics_of_a_resource_show_its_use_and_waits(locks: LockManager, client: redis.Redis):
    assert locks.resources.stats("gpu").utilisation == 0

    with locks.resources.acquire("gpu", 3):
        waiter = threading.Thread(target=lambda: locks.resources.acquire("gpu", wait=LONG).release())
        waiter.start()
        until(lambda: locks.resources.stats("gpu").longest_wait_s > 0.05)
        busy = locks.resources.stats("gpu")
    waiter.join()

    assert (busy.capacity, busy.used, busy.waiting, busy.granted) == (3, 3, 1, 1)
    assert 0 < busy.utilisation <= 1
    after = locks.resources.stats("gpu")
    assert (after.used, after.waiting, after.granted) == (0, 0, 2)
    assert after.longest_wait_s >= busy.longest_wait_s
    assert after.mean_wait_s == pytest.approx(after.longest_wait_s / 2)
    assert set(locks.stats().resources) == {"gpu", "db"}
