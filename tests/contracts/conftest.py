"""Runs, locks and clients on the session's real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from coordination.backend import library
from coordination.backend.client import Profile, connect
from coordination.locks import LockManager
from coordination.runs.store import RunStore
from tests.contracts.carrier import Harness

CLOCK = ("clock:s", "clock:us")


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


@pytest.fixture
def our_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The steps read the time from these keys instead of from the server."""
    read = library._read
    ours = f"call('MGET', '{CLOCK[0]}', '{CLOCK[1]}')"
    with monkeypatch.context() as patch:
        patch.setattr(library, "_read", lambda name: read(name).replace("call('TIME')", ours))
        forget_the_steps()
        assert library.source("20261122").count(ours) == 1, "it has the time from elsewhere"
        yield
    forget_the_steps()


def forget_the_steps() -> None:
    for read in (library._body, library.digest, library.function):
        read.cache_clear()
