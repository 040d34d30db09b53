"""Invalid input to locks is refused, most of it before Redis is asked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import redis

from coordination.errors import LockTimeout, StaleFence, UsageError
from coordination.locks import LockManager


@pytest.fixture
def own(redis_url: str) -> Iterator[LockManager]:
    """A manager that is used."""
    with redis.Redis.from_url(redis_url) as client:
        made = LockManager(client, "test")
        yield made
        made.close()


@pytest.fixture
def locks(own: LockManager, client: redis.Redis) -> Iterator[LockManager]:
    """A manager that refuses everything before it asks Redis."""
    yield own
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
def test_an_invalid_name(locks: LockManager, name: object):
    for operation in (
        lambda: locks.acquire(name),
        lambda: locks.acquire_many(["fine", name]),
        lambda: locks.resources.acquire(name),
        lambda: locks.resources.declare({name: 1}),
        lambda: locks.guard(name),
    ):
        with pytest.raises(UsageError, match="name"):
            operation()


@pytest.mark.parametrize("name", ["x", "a b", "häuser/日本", "lock:x", "x" * 255, "a:b|c,d", "%s {0} '\""])
def test_a_valid_name(own: LockManager, name: str):
    with own.acquire(name) as lock:
        assert lock.name == name
    with own.acquire_many([name, name]) as lock:
        assert lock.names == (name,)


TERMS = {
    "ttl": [timedelta(0), timedelta(seconds=-1), timedelta(microseconds=999), timedelta.max, 10, 0.5, None],
    "wait": [timedelta(seconds=-1), 5, None],
    "priority": [1001, -1001, 10**9, True, 0.5, "high", None],
    "owner": ["a\nb", "x" * 300, 5],
}


@pytest.mark.parametrize(("term", "value"), [(term, value) for term in TERMS for value in TERMS[term]])
def test_an_invalid_term(locks: LockManager, term: str, value: object):
    with pytest.raises(UsageError, match="label" if term == "owner" else term):
        locks.acquire("x", **{term: value})


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
def test_an_invalid_amount(locks: LockManager, amount: object):
    with pytest.raises(UsageError, match="amount"):
        locks.resources.acquire("gpu", amount)
    if amount != 0:
        with pytest.raises(UsageError, match="capacity"):
            locks.resources.declare({"gpu": amount})


def test_the_largest_capacity_is_counted_exactly(own: LockManager):
    own.resources.declare({"gpu": 10**9})
    with own.resources.acquire("gpu", 10**9 - 1), own.resources.acquire("gpu"):
        assert own.resources.stats("gpu").used == 10**9
        with pytest.raises(LockTimeout):
            own.resources.acquire("gpu", wait=timedelta(0))


@pytest.mark.parametrize("fence", [True, 1.5, float("nan"), "5", None, -1, 2**53 + 1, 10**400])
def test_an_invalid_fence(own: LockManager, fence: object):
    guard = own.guard("x")
    for call in (lambda: guard.write("v", fence), lambda: guard.check(fence)):
        with pytest.raises(UsageError, match="fence"):
            call()


@pytest.mark.parametrize("value", [None, b"x", 5, "half a \ud800", "x" * (1024**2 + 1)])
def test_an_invalid_value_of_a_guard(own: LockManager, value: object):
    guard = own.guard("x")
    with own.acquire("x") as lock, pytest.raises(UsageError, match="text"):
        guard.write(value, lock.fence)
    assert guard.read() == (None, 0)


def test_a_fence_that_was_never_given_out_locks_nobody_out(own: LockManager):
    guard = own.guard("x")
    with own.acquire("x") as lock:
        for fence in (0, lock.fence + 1, 2**53):
            with pytest.raises(StaleFence):
                guard.write("forged", fence)
        guard.write("true", lock.fence)
    assert guard.read() == ("true", lock.fence)
    assert guard.refused == 3
