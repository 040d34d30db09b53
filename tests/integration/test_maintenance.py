"""The maintenance leader: due timers, expired leases, runs that are damaged or stuck, and left locks and
inboxes.
"""

from __future__ import annotations

import base64
import json
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coordination.backend.client import Profile, connect
from coordination.backend.steps.run import Reply
from coordination.cli.following.summary import print_run
from coordination.locks import LockManager, Owner
from coordination.messages import MessageBus
from coordination.models import OnFailure, Strategy
from coordination.runs.attempt_store import Grant
from coordination.runs.dispatch import Dispatcher
from coordination.runs.maintenance import lease_trust, stuck
from coordination.runs.maintenance.leader import MaintenanceLeader
from coordination.runs.maintenance.rounds import RunRecovery
from coordination.runs.store import RunStore
from coordination.runs.worker_registry import Worker, WorkerRegistry
from coordination.settings import Settings
from tests.engine import BAD, Engine
from tests.integration.conftest import MakeWorker, submitted
from tests.waiting import until
from workers.config import WorkerConfig
from workers.container import Container
from workers.file_services import HistoryService, ResultsWriter
from workers.restricted import RestrictedContainer

CHAIN = {"A": "r1", "B": ("r1", ["A"])}
LEASE_TTL = timedelta(seconds=5)
SETTINGS = Settings(namespace="test", lease_ttl=LEASE_TTL)
DEAD = Owner(host="elsewhere", pid=1, started="long ago", thread=1)


@pytest.fixture
def keeper(store: RunStore, dispatcher: Dispatcher, tmp_path: Path) -> MaintenanceLeader:
    return MaintenanceLeader(store, dispatcher, SETTINGS, label="me", state=tmp_path)


@pytest.fixture
def run(store: RunStore) -> Engine:
    return submitted(store, {"A": "r1"})


class Clock:
    """The clock by which leases are trusted again; only the test moves it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        monkeypatch.setattr(lease_trust, "time", SimpleNamespace(monotonic=lambda: self.now_s))


def one_lease_passes(store: RunStore) -> None:
    """Since the server was started: until then nobody is given up."""
    until(lambda: int(store.redis.info("server")["uptime_in_seconds"]) >= LEASE_TTL.total_seconds())


def say(store: RunStore, host: str, *repos: str) -> None:
    """A worker of this host is there."""
    worker = Worker(id=f"coord-1@{host}", host=host, pid=1, version="1", repos=repos, jobs=1)
    WorkerRegistry(store.redis, store.keys).say(worker, store.now_ms(), timedelta(minutes=1))


def damage(run: Engine, part: str) -> None:
    key = f"test:run:{run.run_id}:{part}"
    run.store.redis.delete(key)
    run.store.redis.set(key, "of another type")


def test_a_leader_that_never_started_can_be_stopped(keeper: MaintenanceLeader):
    keeper.stop()


@pytest.mark.parametrize("part", ["sent", "meta", "state"])
def test_a_damaged_run_keeps_no_other_timer_from_firing(
    store: RunStore, keeper: MaintenanceLeader, part: str
):
    bad, good = submitted(store, {"A": "r1"}), submitted(store, {"B": "r2"})
    store.retry(good.take("B"), timedelta(milliseconds=1), BAD)
    damage(bad, part)
    store.redis.zadd(store.keys.timers, {f"{bad.run_id} A": 1, f"{good.run_id} B": 2})

    keeper.run_once()

    assert good.states() == {"B": "dispatched"}


def test_a_damaged_run_keeps_no_other_expired_lease_from_being_seen(
    store: RunStore, keeper: MaintenanceLeader
):
    bad, good = submitted(store, {"A": "r1"}), submitted(store, {"B": "r2"})
    bad.take("A")
    good.take("B")
    damage(bad, "meta")
    store.redis.zadd(store.keys.leases, {f"{bad.run_id} A": 1, f"{good.run_id} B": 2})
    one_lease_passes(store)
    say(store, "h1", "r1", "r2")

    keeper.run_once()

    assert good.states() == {"B": "dispatched"}


def test_when_redis_is_back_an_expired_lease_counts_only_after_the_time_of_one_lease(
    store: RunStore, dispatcher: Dispatcher, run: Engine, monkeypatch: pytest.MonkeyPatch
):
    clock = Clock(monkeypatch)
    reaper = RunRecovery(store, dispatcher, Settings(lease_ttl=timedelta(minutes=1)))
    reaper.run_once()
    clock.now_s = 3600
    run.take("A")
    store.redis.zadd(store.keys.leases, {f"{run.run_id} A": 1})

    reaper.trust.lose()
    clock.now_s += 59
    assert reaper.run_once().lost == []

    clock.now_s += 1
    assert reaper.run_once().lost == [(run.run_id, "A")]


def test_while_redis_was_away_no_lease_is_lost(
    run: Engine, store: RunStore, dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
):
    clock = Clock(monkeypatch)
    reaper = RunRecovery(store, dispatcher, SETTINGS)
    grant = run.take("A")
    member = f"{run.run_id} A"
    for _ in range(2 * SETTINGS.lost_leases):  # away, and back for a moment: its lease ran out meanwhile
        store.redis.zadd(store.keys.leases, {member: 1})
        reaper.trust.lose()
        assert reaper.run_once().lost == []
    store.renew({member: grant.fence}, timedelta(hours=1))  # its worker was there all the time

    store.retry(grant, timedelta(0), BAD)
    run.mail.extend(store.resend(run.run_id, timedelta(0), 10).sends)
    run.take("A")
    store.redis.zadd(store.keys.leases, {member: 1})
    clock.now_s += LEASE_TTL.total_seconds()
    assert reaper.run_once().lost == [(run.run_id, "A")]

    facts = store.redis.hgetall(store.keys.run(run.run_id).facts)
    assert (facts["A lost"], facts["A tries"]) == ("1", "1")
    assert store.redis.hget(store.keys.counters, "leases_lost") == "1"


def test_a_todo_whose_host_is_gone_waits_and_names_both_hosts(store: RunStore, keeper: MaintenanceLeader):
    one_lease_passes(store)
    say(store, "h2", "r1")
    run = submitted(store, CHAIN)
    run.settle(run.take("A"))  # on h1
    assert run.states()["B"] == "dispatched"

    keeper.run_once()

    waiting = next(t for t in run.view().todos if t.id == "B")
    assert waiting.state == "parked"
    for words in ("host h1", "h2 serves it", f"coord retry {run.run_id} --without h1"):
        assert words in waiting.waits_for

    say(store, "h1", "r1")
    keeper.run_once()
    assert run.states()["B"] == "dispatched"
    assert run.claim(run.mail[0], host="h2").word == "elsewhere"


def test_a_run_can_be_cancelled_while_its_host_is_gone(store: RunStore, keeper: MaintenanceLeader):
    one_lease_passes(store)
    run = submitted(store, CHAIN)
    run.settle(run.take("A"))
    keeper.run_once()

    run.cancel("me")

    assert run.view().status == "cancelled"
    say(store, "h1", "r1")
    keeper.run_once()
    assert run.states() == {"A": "succeeded", "B": "cancelled"}


def test_a_run_that_is_stuck_is_reported_once_and_its_state_is_kept(
    run: Engine,
    store: RunStore,
    keeper: MaintenanceLeader,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    for wait in ("QUIET_S", "CONFIRM_S", "LOOK_S"):
        monkeypatch.setattr(stuck, wait, 0)
    store.redis.zrem(f"{store.keys.run(run.run_id).prefix}:sent", "A")

    assert [keeper.run_once().stuck for _ in range(4)] == [[], [run.run_id], [], []]

    print_run(run.view(), as_json=False)
    words = "internal error: A was dispatched, and its message is not kept in mind; its state is in "
    assert words in (said := capsys.readouterr().out)
    assert f"{tmp_path}/stuck/{run.run_id}.json; please report it" in said


@pytest.mark.parametrize("strategy", [Strategy.LEVELS, Strategy.DATAFLOW])
def test_timers_are_in_redis_and_in_no_message(store: RunStore, dispatcher: Dispatcher, strategy: Strategy):
    run = submitted(store, CHAIN, strategy)
    keys, sent = store.keys, list[dict[str, Any]]()

    def follow(reply: Reply) -> Reply:
        dispatcher.follow(reply)
        queues = (keys.queue("r1"), keys.queue("r1", "h1"), keys.control_queue)
        sent.extend(json.loads(entry) for queue in queues if (entry := store.redis.rpop(queue)) is not None)
        return reply

    def claim(attempt: int) -> Grant:
        lease = timedelta(seconds=30)
        asked = {"worker": "w", "host": "h1", "lease": lease, "request": f"{attempt}"}
        grant = follow(store.claim(run.run_id, "A", attempt, **asked)).grant
        assert grant is not None
        return grant

    level = {"header" if strategy is Strategy.LEVELS else "sends": tuple(run.mail)}
    follow(Reply(word="sealed", **level))
    assert len(sent) == 1
    follow(store.retry(claim(1), timedelta(hours=1), BAD))
    assert len(sent) == 1  # it waits without a message
    assert store.redis.zscore(keys.timers, f"{run.run_id} A") > store.now_ms() + 3_500_000
    follow(store.fire(run.run_id, "A"))
    follow(store.park(claim(2), "a reason", timedelta(hours=1)))
    assert len(sent) == 2
    follow(store.fire(run.run_id, "A"))
    assert len(sent) == 3

    for message in sent:
        headers = message["headers"]
        assert (headers["eta"], headers["expires"]) == (None, None)
        assert "countdown" not in base64.b64decode(message["body"]).decode()


@pytest.mark.parametrize("strategy", [Strategy.LEVELS, Strategy.DATAFLOW])
@pytest.mark.parametrize(
    ("action", "verdict", "states"),
    [
        ("true", "approve", {"A": "dispatched", "B": "waiting"}),
        ("true", "reject", {"A": "failed", "B": "skipped", "C": "dispatched"}),
        ({"type": "manual"}, "approve", {"A": "succeeded", "B": "dispatched", "C": "dispatched"}),
    ],
)
def test_when_nobody_comes_in_time_the_run_goes_on_as_the_gate_says(
    store: RunStore,
    keeper: MaintenanceLeader,
    strategy: Strategy,
    action: object,
    verdict: str,
    states: dict[str, str],
):
    todos = {"A": "r1", "B": ("r2", ["A"]), "C": ("r3", ["D"]), "D": "r4"}
    gate = {"timeout": "1ms", "on_timeout": verdict}
    more = {"A": {"gate": gate, "action": action}, "D": {"action": {"type": "manual"}}}
    run = submitted(store, todos, strategy, OnFailure.CONTINUE, **more)
    run.complete("D", "me")

    assert until(lambda: keeper.run_once().fired) == 1

    found = run.states()
    assert {name: found[name] for name in states} == states
    assert keeper.run_once().fired == 0


def test_the_leader_clears_left_locks_and_inboxes(redis_url: str, make_worker: MakeWorker):
    parts = make_worker("r1")
    sweeper: Any = next(one for one in parts.leader_services() if one.name == "sweeper")
    with (
        connect(redis_url, Profile.WORKER) as redis,
        closing(LockManager(redis, "coord", owner=DEAD)) as locks,
    ):
        bus = MessageBus(redis, "coord", sender="me")
        bus.register("repo:r1")
        bus.send("repo:r1", "note", "soon over", ttl=timedelta(milliseconds=1))
        locks.acquire("x", ttl=timedelta(milliseconds=5), keep=False)
        until(lambda: not redis.exists("coord:lock:x"))

        swept = sweeper.run_once()

        assert (swept.idle, swept.owners) == (1, 1)
        messages, values, probes = swept.periodic_jobs
        assert (messages.expired, values.expired, probes) == (1, 0, ())
    sweeper.stop()


def test_a_restricted_worker_never_leads_and_writes_no_history_or_results(redis_url: str, tmp_path: Path):
    config = WorkerConfig(
        redis_url=redis_url,
        settings=Settings(),
        places={},
        jobs=1,
        state=tmp_path / "s",
        file=tmp_path / "ecosystem.yaml",
    )
    never = (MaintenanceLeader, HistoryService, ResultsWriter)
    with closing(RestrictedContainer(config)) as restricted:
        assert not any(isinstance(service, never) for service in restricted.services)
    with closing(Container(config)) as other:
        assert {type(service) for service in other.services} > set(never)


def test_a_worker_that_cannot_make_the_leaders_services_leaves_the_lead_to_another(
    store: RunStore, dispatcher: Dispatcher
):
    def services() -> list[Any]:
        raise ImportError("another version was installed over this one")

    broken = MaintenanceLeader(store, dispatcher, SETTINGS, label="broken", services=services)
    broken.stopping.set()  # it does not wait before its next try
    assert broken.run_once() is None
    assert not broken.leads

    other = MaintenanceLeader(store, dispatcher, SETTINGS, label="other")
    assert other.run_once() is not None
    other.finish()
