"""Locks of dead processes are cleared, by one sweeper at a time, and offered to the next requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
import redis

from coordination.backend.keys import Keys
from coordination.backend.step_connection import StepCaller
from coordination.locks import LockManager
from coordination.locks.sweeper import Sweeper
from tests.waiting import until

KEYS = Keys("test").locks
HOUR_MS = 3_600_000


@pytest.fixture
def sweeper(client: redis.Redis) -> Iterator[Sweeper]:
    made = Sweeper(client, "test")
    yield made
    made.stop()


def asks(client: redis.Redis, request: str, want: str, *, ttl_ms: int = HOUR_MS, kind: str = "") -> str:
    args = [request, want, ttl_ms, 0, HOUR_MS, "", f"party of {request}", "kind", kind]
    return StepCaller(client)("lock/acquire", [KEYS.head], args).split()[0]


def dies(client: redis.Redis, request: str, *held: str) -> None:
    """As Redis forgets it: what expires goes without a word."""
    client.delete(KEYS.request(request), *map(KEYS.holder, held))


def test_the_place_of_a_waiter_that_died_is_cleared(client: redis.Redis, sweeper: Sweeper):
    asks(client, "holder", "x lock:a")
    asks(client, "waiter", "x lock:a")
    dies(client, "waiter")

    swept = sweeper.run_once()

    assert (swept.places, swept.owners, swept.idle) == (1, 1, 0)
    assert not client.exists(KEYS.queue("lock:a"), KEYS.party("party of waiter"))
    assert client.exists(KEYS.party("party of holder"))


def test_a_lock_whose_holder_died_is_handed_to_who_waits(client: redis.Redis, sweeper: Sweeper):
    asks(client, "holder", "x lock:a")
    asks(client, "waiter", "x lock:a")
    dies(client, "holder", "lock:a")

    swept = sweeper.run_once()

    assert swept.handed == 1
    assert client.get(KEYS.holder("lock:a")) == "waiter"
    assert client.llen(KEYS.wake("waiter")) == 1


def test_an_expired_share_of_a_resource_goes_to_the_todo_that_waits_for_it(
    client: redis.Redis, sweeper: Sweeper
):
    client.hset(KEYS.capacities, "resource:gpu", 1)
    asks(client, "holder", "1/0 resource:gpu")
    asks(client, "run todo", "1/0 resource:gpu", ttl_ms=0, kind="todo")
    dies(client, "holder")
    client.zadd(KEYS.shares("resource:gpu"), {"1 holder": 1})

    swept = sweeper.run_once()

    assert (swept.shares, swept.handed) == (1, 1)
    assert client.hget(KEYS.request("run todo"), "state") == "held"
    assert client.zscore("test:timers", "run todo"), "the run's keeper hears of it"


def test_a_name_that_nobody_holds_or_waits_for_is_forgotten(client: redis.Redis, sweeper: Sweeper):
    asks(client, "holder", "x lock:a")
    dies(client, "holder", "lock:a")

    swept = sweeper.run_once()

    assert (swept.idle, swept.owners) == (1, 1)
    assert client.smembers(KEYS.names) == {"lock:sweeper"}
    assert sweeper.run_once().idle == 0


def test_what_lives_is_left_alone(client: redis.Redis, sweeper: Sweeper):
    for i in range(250):
        asks(client, f"holder{i}", f"x lock:{i}")
    asks(client, "waiter", "x lock:7")

    swept = sweeper.run_once()

    assert (swept.places, swept.shares, swept.handed, swept.idle, swept.owners) == (0, 0, 0, 0, 0)
    assert client.scard(KEYS.names) == 251
    assert client.zcard(KEYS.queue("lock:7")) == 1


def test_after_releases_nothing_is_left_to_be_swept(client: redis.Redis):
    locks = LockManager(client, "test")

    with locks.acquire_many(["a", "b"]):
        pass

    assert not client.exists(KEYS.names, KEYS.parties)
    locks.close()


def test_one_sweeper_leads_until_it_stops(client: redis.Redis, sweeper: Sweeper):
    other = Sweeper(client, "test")
    assert sweeper.run_once().led

    assert not other.run_once().led

    sweeper.start()
    sweeper.stop()
    assert other.run_once().led
    other.stop()


def test_a_started_sweeper_goes_round_by_itself_and_does_its_chores(client: redis.Redis):
    done = threading.Event()
    sweeper = Sweeper(client, "test", chores=[done.set], every=timedelta(milliseconds=20))
    asks(client, "holder", "x lock:a")
    dies(client, "holder", "lock:a")

    sweeper.start()

    assert done.wait(10)
    until(lambda: not client.sismember(KEYS.names, "lock:a"))
    sweeper.stop()


def test_a_chore_that_fails_does_not_keep_the_others_from_being_done(client: redis.Redis):
    def fails() -> None:
        raise redis.ConnectionError("gone")

    sweeper = Sweeper(client, "test", chores=[fails, lambda: 7])

    assert sweeper.run_once().chores == (None, 7)
    sweeper.stop()
