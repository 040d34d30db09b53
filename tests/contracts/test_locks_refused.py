"""Invalid locks are refused before Redis is asked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import redis

from coordination.errors import LockTimeout, StaleFence, UsageError
from coordination.locks import LockManager


@pytest.fixture
def locks(redis_url: str) -> Iterator[LockManager]:
    with redis.Redis.from_url(redis_url) as client:
        yield LockManager(client, "test")
        assert client.keys() == []


NO_NAMES = {
    "empty": "",
    "10 kB": "x" * 10_240,
    "a line end": "a\nb",
    "a control character": "a\x00b",
    "an escape sequence": "\x1b[2J",
    "half a character": "a\ud800",
    "a direction of writing": "a\u202eb",
    "a number": 5,
    "nothing": None,
    "bytes": b"x",
}


@pytest.mark.parametrize("name", NO_NAMES.values(), ids=NO_NAMES)
def test_what_is_no_name(locks: LockManager, name: object):
    for deed in (
        lambda: locks.acquire(name),
        lambda: locks.acquire_many(["fine", name]),
        lambda: locks.resources.acquire(name),
        lambda: locks.resources.declare({name: 1}),
        lambda: locks.guard(name),
    ):
        with pytest.raises(UsageError, match="name"):
            deed()


@pytest.mark.parametrize("name", ["x", "a b", "häuser/日本", "lock:x", "x" * 255, "a:b|c,d", "%s {0} '\""])
def test_what_is_one(redis_url: str, name: str):
    with redis.Redis.from_url(redis_url) as client:
        locks = LockManager(client, "test")
        with locks.acquire(name) as lock:
            assert lock.name == name
        locks.close()


@pytest.mark.parametrize(
    "ttl", [timedelta(0), timedelta(seconds=-1), timedelta(microseconds=999), timedelta.max, 10, 0.5, None]
)
def test_what_is_no_ttl(locks: LockManager, ttl: object):
    with pytest.raises(UsageError, match="ttl"):
        locks.acquire("x", ttl=ttl)


@pytest.mark.parametrize("wait", [timedelta(seconds=-1), 5, None])
def test_what_is_no_wait(locks: LockManager, wait: object):
    with pytest.raises(UsageError, match="wait"):
        locks.acquire("x", wait=wait)


@pytest.mark.parametrize("priority", [1001, -1001, 10**9, True, 0.5, "high", None])
def test_what_is_no_priority(locks: LockManager, priority: object):
    with pytest.raises(UsageError, match="priority"):
        locks.acquire("x", priority=priority)


@pytest.mark.parametrize("owner", ["a\nb", "x" * 300, 5])
def test_what_is_no_label(locks: LockManager, owner: object):
    with pytest.raises(UsageError, match="label"):
        locks.acquire("x", owner=owner)


def test_several_are_at_least_one_and_no_text(locks: LockManager):
    with pytest.raises(UsageError, match="no names were given"):
        locks.acquire_many([])
    with pytest.raises(UsageError, match="one name"):
        locks.acquire_many("abc")
    with pytest.raises(UsageError, match="no amounts were given"):
        locks.resources.acquire_many({})
    with pytest.raises(UsageError, match="has no amounts"):
        locks.resources.acquire_many(["gpu"])


@pytest.mark.parametrize("amount", [0, -1, 1.5, "2", None, True, 10**9 + 1, 10**400])
def test_what_is_no_amount(locks: LockManager, amount: object):
    with pytest.raises(UsageError, match="amount"):
        locks.resources.acquire("gpu", amount)
    if amount != 0:
        with pytest.raises(UsageError, match="capacity"):
            locks.resources.declare({"gpu": amount})


def test_the_most_that_there_can_be_of_a_resource_is_counted_exactly(redis_url: str):
    with redis.Redis.from_url(redis_url) as client:
        locks = LockManager(client, "test")
        locks.resources.declare({"gpu": 10**9})
        with locks.resources.acquire("gpu", 10**9 - 1), locks.resources.acquire("gpu"):
            assert locks.resources.stats("gpu").used == 10**9
            with pytest.raises(LockTimeout):
                locks.resources.acquire("gpu", wait=timedelta(0))
        locks.close()


@pytest.mark.parametrize("fence", [True, 1.5, float("nan"), "5", None, -1, 2**53 + 1, 10**400])
def test_what_is_no_fence(redis_url: str, fence: object):
    with redis.Redis.from_url(redis_url) as client:
        locks = LockManager(client, "test")
        guard = locks.guard("x")
        for deed in (lambda: guard.write("v", fence), lambda: guard.check(fence)):
            with pytest.raises(UsageError, match="fence"):
                deed()
        locks.close()


@pytest.mark.parametrize("value", [None, b"x", 5, "half a \ud800", "x" * (1024**2 + 1)])
def test_what_no_guard_keeps(redis_url: str, value: object):
    with redis.Redis.from_url(redis_url) as client:
        locks = LockManager(client, "test")
        guard = locks.guard("x")
        with locks.acquire("x") as lock, pytest.raises(UsageError, match="text"):
            guard.write(value, lock.fence)
        assert guard.read() == (None, 0)
        locks.close()


def test_a_fence_that_was_never_given_out_locks_nobody_out(redis_url: str):
    with redis.Redis.from_url(redis_url) as client:
        locks = LockManager(client, "test")
        guard = locks.guard("x")
        with locks.acquire("x") as lock:
            for fence in (0, lock.fence + 1, 2**53):
                with pytest.raises(StaleFence):
                    guard.write("forged", fence)
            guard.write("true", lock.fence)
        assert guard.read() == ("true", lock.fence)
        assert guard.refused == 3
        locks.close()


def test_a_name_that_is_named_twice_is_asked_for_once(redis_url: str):
    with redis.Redis.from_url(redis_url) as client:
        locks = LockManager(client, "test")
        with locks.acquire_many(["x", "x"]) as lock:
            assert lock.names == ("x",)
        locks.close()
