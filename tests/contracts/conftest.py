"""Runs, locks and clients on the session's real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from coordination.backend.client import Profile, connect
from coordination.locks import LockManager
from coordination.runs.store import RunStore
from tests.contracts.carrier import Harness


@pytest.fixture
def store(redis_url: str) -> Iterator[RunStore]:
    with connect(redis_url, Profile.COMMAND) as made:
        yield RunStore(made, "test")


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
