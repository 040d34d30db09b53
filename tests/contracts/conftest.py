"""Every member of the family that keeps runs: a real server, and the fake one. Locks of a real server."""

from __future__ import annotations

from collections.abc import Iterator

import fakeredis
import pytest
import redis

from coordination.backend.client import Profile, connect
from coordination.locks import LockManager
from coordination.runs.store import RunStore
from tests.contracts.carrier import Harness


@pytest.fixture(params=["server", "fake"])
def store(request: pytest.FixtureRequest) -> Iterator[RunStore]:
    if request.param == "fake":
        client = fakeredis.FakeRedis(decode_responses=True)
    else:
        client = connect(request.getfixturevalue("redis_url"), Profile.COMMAND)
    yield RunStore(client, "test")
    client.close()


@pytest.fixture
def run(store: RunStore) -> Harness:
    return Harness(store)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as made:
        yield made


@pytest.fixture
def locks(client: redis.Redis) -> Iterator[LockManager]:
    made = LockManager(client, "test")
    yield made
    made.close()
