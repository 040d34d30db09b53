"""The sweeper of locks clears what dead holders and waiters leave."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
import redis

from coordination.backend.keys import Keys
from coordination.backend.steps.lock import Answer
from coordination.locks.sweeper import Sweeper
from tests.lock_requests import ask
from tests.waiting import until

KEYS = Keys("test").locks
HOUR_MS = 3_600_000


@pytest.fixture
def sweeper(client: redis.Redis) -> Iterator[Sweeper]:
    made = Sweeper(client, "test")
    yield made
    made.stop()


def asks(client: redis.Redis, request: str, want: str, *, ttl_ms: int = HOUR_MS, kind: str = "") -> Answer:
    return ask(client, request, want, ttl_ms=ttl_ms, party=f"party of {request}", kind=kind)


def dies(client: redis.Redis, request: str, *held: str) -> None:
    """As Redis forgets it: what expires goes without a word."""
    client.delete(KEYS.request(request), *map(KEYS.holder, held))


def test_locks_and_places_of_the_dead_are_cleared(client: redis.Redis, sweeper: Sweeper):
    for request, name in (("holder", "a"), ("waiter", "a"), ("alive", "b"), ("dead", "b"), ("idle", "c")):
        asks(client, request, f"x lock:{name}")
    dies(client, "holder", "lock:a")
    dies(client, "dead")
    dies(client, "idle", "lock:c")

    swept = sweeper.run_once()

    assert (swept.handed, swept.places, swept.idle, swept.owners) == (1, 1, 1, 3)
    assert client.get(KEYS.holder("lock:a")) == "waiter"
    assert client.llen(KEYS.wake("waiter")) == 1
    assert not client.exists(KEYS.queue("lock:b"), KEYS.party("party of dead"))
    assert client.exists(KEYS.party("party of alive"))
    assert client.smembers(KEYS.names) == {"lock:a", "lock:b"}
    assert sweeper.run_once().idle == 0


def test_an_expired_share_goes_to_the_todo_that_waits(client: redis.Redis, sweeper: Sweeper):
    client.hset(KEYS.capacities, "resource:gpu", 1)
    asks(client, "holder", "1/0 resource:gpu")
    asks(client, "run todo", "1/0 resource:gpu", ttl_ms=0, kind="todo")
    dies(client, "holder")
    client.zadd(KEYS.shares("resource:gpu"), {"1 holder": 1})

    swept = sweeper.run_once()

    assert (swept.shares, swept.handed) == (1, 1)
    assert client.hget(KEYS.request("run todo"), "state") == "held"
    assert client.zscore("test:timers", "run todo"), "the run's keeper hears of it"


def test_what_lives_is_left_alone(client: redis.Redis, sweeper: Sweeper):
    for i in range(250):
        asks(client, f"holder{i}", f"x lock:{i}")
    asks(client, "waiter", "x lock:7")

    swept = sweeper.run_once()

    assert (swept.places, swept.shares, swept.handed, swept.idle, swept.owners) == (0, 0, 0, 0, 0)
    assert client.scard(KEYS.names) == 250
    assert client.zcard(KEYS.queue("lock:7")) == 1


def test_a_started_sweeper_goes_round_by_itself_and_does_its_periodic_jobs(client: redis.Redis):
    def fails() -> None:
        raise redis.ConnectionError("gone")

    done = threading.Event()
    sweeper = Sweeper(
        client, "test", periodic_jobs=[fails, lambda: done.set() or 7], every=timedelta(milliseconds=20)
    )
    asks(client, "holder", "x lock:a")
    dies(client, "holder", "lock:a")
    assert sweeper.run_once().periodic_jobs == (None, 7)
    done.clear()

    sweeper.start()

    assert done.wait(60)
    until(lambda: not client.sismember(KEYS.names, "lock:a"))
    sweeper.stop()
