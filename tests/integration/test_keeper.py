"""The keeper's own life: one run that cannot be read, and a stop at any moment, harm nobody else."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest

from coordination.backend.client import Profile, connect
from coordination.broker.celery_app import make_app
from coordination.runs.dispatch import Dispatcher
from coordination.runs.maintenance import leader
from coordination.runs.maintenance.leader import MaintenanceLeader, RunRecovery
from coordination.runs.presence import Presence, Worker
from coordination.runs.store import RunStore
from coordination.settings import Settings
from tests.contracts.carrier import BAD, Harness
from tests.plans import ecosystem, graph, order
from tests.waiting import until

CHAIN = {"A": "r1", "B": ("r1", ["A"])}
SETTINGS = Settings(lease_ttl=timedelta(seconds=1))


@pytest.fixture
def store(redis_url: str) -> RunStore:
    return RunStore(connect(redis_url, Profile.COMMAND), "test")


@pytest.fixture
def keeper(redis_url: str, store: RunStore) -> MaintenanceLeader:
    dispatcher = Dispatcher(make_app(redis_url, store.keys, SETTINGS), store)
    return MaintenanceLeader(store, dispatcher, SETTINGS, label="me")


def submitted(store: RunStore, todo: str, repo: str) -> Harness:
    run = Harness(store)
    run.submit(graph({todo: repo}), ecosystem({todo: repo}), order())
    return run


def say(store: RunStore, host: str, *repos: str) -> None:
    """A worker of this host is there."""
    worker = Worker(id=f"coord-1@{host}", host=host, pid=1, version="1", repos=repos, jobs=1)
    Presence(store.redis, store.keys).say(worker, store.now_ms(), timedelta(minutes=1))


def damage(run: Harness, part: str) -> None:
    key = f"test:run:{run.run_id}:{part}"
    run.store.redis.delete(key)
    run.store.redis.set(key, "of another type")


def test_a_keeper_that_never_started_can_be_stopped(keeper: MaintenanceLeader):
    keeper.stop()


@pytest.mark.parametrize("part", ["sent", "meta", "state"])
def test_a_run_that_cannot_be_read_does_not_keep_the_timers_of_others_from_firing(
    store: RunStore, keeper: MaintenanceLeader, part: str
):
    bad, good = submitted(store, "A", "r1"), submitted(store, "B", "r2")
    store.retry(good.take("B"), timedelta(milliseconds=1), BAD)
    damage(bad, part)
    store.redis.zadd(store.keys.timers, {f"{bad.run_id} A": 1, f"{good.run_id} B": 2})

    keeper.run_once()

    assert good.states() == {"B": "dispatched"}


def test_a_run_that_cannot_be_read_does_not_keep_others_from_being_taken_up(
    store: RunStore, keeper: MaintenanceLeader
):
    bad, good = submitted(store, "A", "r1"), submitted(store, "B", "r2")
    bad.take("A")
    good.take("B")
    damage(bad, "meta")
    store.redis.zadd(store.keys.leases, {f"{bad.run_id} A": 1, f"{good.run_id} B": 2})
    until(lambda: int(store.redis.info("server")["uptime_in_seconds"]) >= 1)
    say(store, "h1", "r1", "r2")

    keeper.run_once()

    assert good.states() == {"B": "dispatched"}


def test_when_redis_is_back_an_expired_lease_counts_only_after_the_time_of_one_lease(
    redis_url: str, store: RunStore, monkeypatch: pytest.MonkeyPatch
):
    now_s = 0.0
    monkeypatch.setattr(leader, "time", SimpleNamespace(monotonic=lambda: now_s))
    settings = Settings(lease_ttl=timedelta(minutes=1))
    reaper = RunRecovery(store, Dispatcher(make_app(redis_url, store.keys, settings), store), settings)
    reaper.run_once()
    now_s = 3600
    run = submitted(store, "A", "r1")
    run.take("A")
    store.redis.zadd(store.keys.leases, {f"{run.run_id} A": 1})

    reaper.redis_was_away()
    now_s += 59
    assert reaper.run_once().lost == []

    now_s += 1
    assert reaper.run_once().lost == [(run.run_id, "A")]


def test_what_is_due_on_a_host_that_is_gone_waits_with_both_hosts_named_until_it_is_back(
    store: RunStore, keeper: MaintenanceLeader
):
    until(lambda: int(store.redis.info("server")["uptime_in_seconds"]) >= 1)
    say(store, "h2", "r1")
    run = Harness(store)
    run.submit(graph(CHAIN), ecosystem(CHAIN), order())
    run.settle(run.take("A"))  # on h1
    assert run.states()["B"] == "dispatched"

    keeper.run_once()

    waiting = next(t for t in run.view().todos if t.id == "B")
    assert waiting.state == "parked"
    assert "host h1" in waiting.waits_for
    assert "h2 serves it" in waiting.waits_for
    assert f"coord retry {run.run_id} --without h1" in waiting.waits_for

    say(store, "h1", "r1")
    keeper.run_once()
    assert run.states()["B"] == "dispatched"
    assert run.claim(run.mail[0], host="h2").word == "elsewhere"


def test_a_run_can_be_cancelled_while_its_host_is_gone(store: RunStore, keeper: MaintenanceLeader):
    until(lambda: int(store.redis.info("server")["uptime_in_seconds"]) >= 1)
    run = Harness(store)
    run.submit(graph(CHAIN), ecosystem(CHAIN), order())
    run.settle(run.take("A"))
    keeper.run_once()

    run.follow(store.cancel(run.run_id, "me"))

    assert run.view().status == "cancelled"
    say(store, "h1", "r1")
    keeper.run_once()
    assert run.states() == {"A": "succeeded", "B": "cancelled"}
