"""Failures that the reaper counts against a worker, those it does not, and its report when coord itself has
failed.
"""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from coordination.backend.client import Profile, connect
from coordination.broker.celery_app import make_app
from coordination.cli.runs.summary import print_run
from coordination.models import Strategy
from coordination.runs.dispatch import Dispatcher
from coordination.runs.maintenance import stuck
from coordination.runs.maintenance.leader import MaintenanceLeader, RunRecovery
from coordination.runs.records import Grant, Reply
from coordination.runs.store import RunStore
from coordination.settings import Settings
from tests.contracts.carrier import BAD, Harness
from tests.plans import ecosystem, graph, order
from tests.waiting import until

SETTINGS = Settings(namespace="test", lease_ttl=timedelta(seconds=1))


@pytest.fixture
def store(redis_url: str) -> RunStore:
    return RunStore(connect(redis_url, Profile.COMMAND), "test")


@pytest.fixture
def dispatcher(redis_url: str, store: RunStore) -> Dispatcher:
    return Dispatcher(make_app(redis_url, store.keys, SETTINGS), store)


@pytest.fixture
def run(store: RunStore) -> Harness:
    made = Harness(store)
    made.submit(graph({"A": "r1"}), ecosystem({"A": "r1"}), order())
    return made


def test_while_redis_was_away_no_lease_is_lost_and_none_counts(
    run: Harness, store: RunStore, dispatcher: Dispatcher
):
    reaper = RunRecovery(store, dispatcher, SETTINGS)
    until(lambda: int(store.redis.info("server")["uptime_in_seconds"]) >= 1)
    grant = run.take("A")
    member = f"{run.run_id} A"
    for _ in range(2 * SETTINGS.lost_leases):  # away, and back for a moment: its lease ran out meanwhile
        store.redis.zadd(store.keys.leases, {member: 1})
        reaper.redis_was_away()
        assert reaper.run_once().lost == []
    store.renew({member: grant.fence}, timedelta(hours=1))  # its worker was there all the time

    store.retry(grant, timedelta(0), BAD)
    run.mail.extend(store.resend(run.run_id, timedelta(0), 10).sends)
    run.take("A")
    store.redis.zadd(store.keys.leases, {member: 1})
    assert until(lambda: reaper.run_once().lost) == [(run.run_id, "A")]

    facts = store.redis.hgetall(store.keys.run(run.run_id).facts)
    assert (facts["A lost"], facts["A tries"]) == ("1", "1")
    assert store.redis.hget(store.keys.counters, "leases_lost") == "1"


def test_a_keeper_that_finds_a_run_stuck_keeps_its_state_and_people_are_told(
    run: Harness,
    store: RunStore,
    dispatcher: Dispatcher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    for wait in ("QUIET_S", "CONFIRM_S", "LOOK_S"):
        monkeypatch.setattr(stuck, wait, 0)
    keeper = MaintenanceLeader(store, dispatcher, SETTINGS, label="me", state=tmp_path)
    store.redis.zrem(f"{store.keys.run(run.run_id).prefix}:sent", "A")

    assert [keeper.run_once().stuck for _ in range(4)] == [[], [run.run_id], [], []]

    print_run(run.view(), as_json=False)
    words = "internal error: A was dispatched, and its message is not kept in mind; its state is in "
    assert words in (said := capsys.readouterr().out)
    assert f"{tmp_path}/stuck/{run.run_id}.json; please report it" in said


def published(store: RunStore, *queues: str) -> list[dict[str, Any]]:
    found = (store.redis.rpop(queue) for queue in queues)
    return [json.loads(entry) for entry in found if entry is not None]


@pytest.mark.parametrize("strategy", [Strategy.LEVELS, Strategy.DATAFLOW])
def test_whoever_has_to_wait_has_a_timer_in_redis_and_no_message_has_one(
    redis_url: str, store: RunStore, dispatcher: Dispatcher, strategy: Strategy
):
    todos = {"A": "r1", "B": ("r1", ["A"])}
    run = Harness(store)
    run.submit(graph(todos), ecosystem(todos), order(strategy))
    sent: list[dict[str, Any]] = []

    def follow(reply: Reply) -> Reply:
        dispatcher.follow(reply)
        sent.extend(
            published(store, store.keys.queue("r1"), store.keys.queue("r1", "h1"), store.keys.control_queue)
        )
        return reply

    def claim(todo: str, attempt: int) -> Grant:
        reply = follow(
            store.claim(
                run.run_id,
                todo,
                attempt,
                worker="w",
                host="h1",
                lease=timedelta(seconds=30),
                request=f"{attempt}",
            )
        )
        assert reply.grant is not None
        return reply.grant

    follow(
        Reply(
            word="sealed",
            header=tuple(run.mail) if strategy is Strategy.LEVELS else (),
            sends=() if strategy is Strategy.LEVELS else tuple(run.mail),
        )
    )
    assert len(sent) == 1
    follow(store.retry(claim("A", 1), timedelta(hours=1), BAD))
    assert len(sent) == 1  # it waits without a message
    assert store.redis.zscore(store.keys.timers, f"{run.run_id} A") > store.now_ms() + 3_500_000
    follow(store.fire(run.run_id, "A"))
    follow(store.park(claim("A", 2), "a reason", timedelta(hours=1)))
    assert len(sent) == 2
    follow(store.fire(run.run_id, "A"))
    assert len(sent) == 3

    for message in sent:
        headers = message["headers"]
        assert (headers["eta"], headers["expires"]) == (None, None)
        assert "countdown" not in base64.b64decode(message["body"]).decode()
