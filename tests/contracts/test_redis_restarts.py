"""A restart of Redis is reported once to the runs that were live before it, whatever fails in between."""

from __future__ import annotations

import pytest
import redis
from redis.client import Pipeline

from coordination.backend.client import Profile, connect
from coordination.events.records import BEGINNING
from coordination.events.stream import EventStream
from coordination.runs.maintenance.rounds import new_epoch
from coordination.runs.store import RunStore


@pytest.fixture
def store(redis_url: str) -> RunStore:
    made = RunStore(connect(redis_url, Profile.COMMAND), "test")
    made.redis.zadd(made.keys.live, {"run": 5})
    return made


def restarts(store: RunStore) -> list[dict[str, str]]:
    """Return the events of the run."""
    return [fields for _, fields in store.redis.xrange(store.keys.run("run").events)]


def announced(store: RunStore) -> list[str]:
    """Return the kinds of the namespace's events."""
    batch = EventStream(store.redis, "test").read(BEGINNING)
    return [event.kind for event in batch.events]


def test_each_server_after_the_first_is_reported_once(store: RunStore):
    assert [new_epoch(store, server, 10) for server in ("a", "a", "b", "b")] == [False, False, True, False]

    assert restarts(store) == [{"what": "redis.restarted", "todo": "", "epoch": "2"}]
    assert announced(store) == ["redis.restarted"]
    assert store.redis.hgetall(store.keys.epoch) == {"server": "b", "n": "2"}


def test_a_server_that_started_before_every_live_run_is_not_reported(store: RunStore):
    new_epoch(store, "a", 10)

    assert not new_epoch(store, "b", 4)

    assert (restarts(store), announced(store)) == ([], [])
    assert store.redis.hget(store.keys.epoch, "server") == "b"


def test_a_report_that_failed_is_repeated(store: RunStore, monkeypatch: pytest.MonkeyPatch):
    new_epoch(store, "a", 10)
    with monkeypatch.context() as patched:
        patched.setattr(Pipeline, "execute", unanswered)
        with pytest.raises(redis.TimeoutError):
            new_epoch(store, "b", 10)

    assert new_epoch(store, "b", 10)

    assert [told["epoch"] for told in restarts(store)] == ["2"]


def unanswered(_pipeline: Pipeline) -> None:
    raise redis.TimeoutError("no answer")
