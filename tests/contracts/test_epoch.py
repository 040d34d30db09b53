"""A restarted server is noted and told to the live runs, whatever fails in between."""

from __future__ import annotations

import pytest
import redis
from redis.client import Pipeline

from coordination.backend.client import Profile, connect
from coordination.runs.maintenance.leader import new_epoch
from coordination.runs.store import RunStore


@pytest.fixture
def store(redis_url: str) -> RunStore:
    made = RunStore(connect(redis_url, Profile.COMMAND), "test")
    made.redis.zadd(made.keys.live, {"run": 5})
    return made


def restarts(store: RunStore) -> list[dict[str, str]]:
    return [fields for _, fields in store.redis.xrange(store.keys.run("run").events)]


def test_the_first_server_that_is_seen_is_no_news_and_each_other_one_is_told_once(store: RunStore):
    assert [new_epoch(store, server, 10) for server in ("a", "a", "b", "b")] == [False, False, True, False]

    assert restarts(store) == [{"what": "redis.restarted", "todo": "", "epoch": "2"}]
    assert store.redis.hgetall(store.keys.epoch) == {"server": "b", "n": "2"}


def test_a_run_that_began_on_the_new_server_is_not_told(store: RunStore):
    new_epoch(store, "a", 10)

    assert new_epoch(store, "b", 4)

    assert restarts(store) == []


def test_what_failed_on_the_way_is_told_the_next_time(store: RunStore, monkeypatch: pytest.MonkeyPatch):
    new_epoch(store, "a", 10)
    with monkeypatch.context() as patched:
        patched.setattr(Pipeline, "execute", unanswered)
        with pytest.raises(redis.TimeoutError):
            new_epoch(store, "b", 10)

    assert new_epoch(store, "b", 10)

    assert [told["epoch"] for told in restarts(store)] == ["2"]


def unanswered(_pipeline: Pipeline) -> None:
    raise redis.TimeoutError("no answer")
