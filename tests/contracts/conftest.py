"""Runs, locks and clients on the session's real server."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from coordination.backend import library
from coordination.backend.client import DRIVER, Profile, connect
from coordination.backend.embedded import EmbeddedServer
from coordination.locks import LockManager
from coordination.runs.store import RunStore
from coordination.settings import Settings
from tests.engine import Engine
from tests.waiting import until

CLOCK = ("clock:s", "clock:us")


@pytest.fixture
def store(redis_url: str) -> Iterator[RunStore]:
    with connect(redis_url, Profile.COMMAND) as made:
        yield RunStore(made, "test")


@pytest.fixture
def run(store: RunStore) -> Engine:
    return Engine(store)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True, driver_info=DRIVER) as made:
        yield made


@pytest.fixture
def locks(client: redis.Redis) -> Iterator[LockManager]:
    made = LockManager(client, "test")
    yield made
    made.close()


class OwnServer(EmbeddedServer):
    """A server of a single test, which may be killed and frozen."""

    def signal(self, number: int) -> None:
        record = self.running()
        assert record is not None
        os.kill(record.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        until(lambda: self.running() is None)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnServer]:
    made = OwnServer(tmp_path / ".coord", Settings(appendfsync="always"))
    made.start()
    yield made
    if made.running():
        made.signal(signal.SIGCONT)
        made.stop()


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
