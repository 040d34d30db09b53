"""The health monitor on a real Redis, in simulated time: leaders, recoveries, stops, remotes that hang."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from coordination.breakers.manager import BreakerManager
from coordination.breakers.records import BreakerState
from coordination.errors import Conflict, MissingRight
from coordination.events.stream import EventStream
from coordination.health.facts import FactSource, ServiceReport
from coordination.health.monitor import HealthMonitor, Round
from coordination.health.records import Health, HealthState, Overall, overall
from coordination.health.recovery import RecoveryRuns
from coordination.health.remotes import RemoteLooks, ls_remote
from coordination.health.store import HealthStore
from coordination.locks import LockManager, Owner
from coordination.messages import MessageBus
from coordination.models import Coordination, Ecosystem, Repo, Service
from coordination.runs.maintenance.notifier import Notifier
from coordination.runs.store import RunStore
from coordination.runs.worker_registry import Worker, WorkerRegistry
from coordination.services.host import ServiceState, ServiceStatus
from coordination.services.view import service_reports
from tests.git_server import GitServer
from tests.testbed import git
from tests.waiting import until

LEASE = timedelta(seconds=15)
REPO = Repo(name="api", url="https://example.org/api.git", owner="person:ann")
WEB = Service(name="web", repo="api", command="serve", required=True)
HEALTHY = ServiceReport(name="web", repo="api", host="h1", state="healthy")
FAILED = replace(HEALTHY, state="failed", why="it ended with 1")


class Fake:
    """Recoveries that end as told, and the states of services."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.outcomes: dict[str, str] = {}
        self.cancelled: list[str] = []
        self.told: list[str] = []
        self.busy = False
        self.reports: list[ServiceReport] = [HEALTHY]

    def begin(self, record: Health) -> str:
        if self.busy:
            raise Conflict("run r9 executes service.web")
        self.begun.append(record.id)
        return f"run-{len(self.begun)}"

    def outcome(self, run: str) -> str | None:
        return self.outcomes.get(run)

    def cancel(self, run: str) -> None:
        self.cancelled.append(run)

    def tell(self, record: Health) -> None:
        self.told.append(record.id)


class Scene:
    """Monitors of several workers, with one clock."""

    def __init__(self, store: RunStore) -> None:
        self.store, self.now = store, time.time()
        self.fake = Fake()
        self.health = HealthStore(store.redis, store.keys)
        self.declared = Ecosystem(repos=(REPO,), coordination=Coordination(services=(WEB,)))
        self.first, self.second = self.monitor("one"), self.monitor("two")
        self.serve()

    def monitor(self, label: str) -> HealthMonitor:
        redis, keys = self.store.redis, self.store.keys
        owner = Owner(host=label, pid=1, started="now", thread=1)
        return HealthMonitor(
            self.health,
            FactSource(redis, keys, lambda: self.declared, self._reports),
            EventStream(redis, keys.namespace),
            LockManager(redis, keys.namespace, owner=owner),
            BreakerManager(redis, keys.namespace),
            self.fake,
            label=label,
            lease=LEASE,
            clock=lambda: self.now,
        )

    def _reports(self) -> Iterable[ServiceReport]:
        return self.fake.reports

    @property
    def registry(self) -> WorkerRegistry:
        return WorkerRegistry(self.store.redis, self.store.keys)

    def serve(self, **facts: object) -> None:
        worker = Worker(id="coord-1@h1", host="h1", pid=1, version="1", repos=("api",), jobs=1)
        self.registry.say(worker.model_copy(update=facts), self.store.now_ms(), timedelta(hours=1))

    def pass_s(self, seconds: float, monitor: HealthMonitor | None = None) -> list[Round]:
        """Let the time pass in rounds of half a second."""
        rounds, end = [], self.now + seconds
        while self.now < end:
            rounds.append((monitor or self.first).run_once())
            self.now += 0.5
        return rounds

    def record(self, subject: str = "service:web") -> Health:
        return next(one for one in self.health.records() if one.id == subject)

    def events(self, kind: str) -> list[str]:
        found = EventStream(self.store.redis, "test").latest(100, lambda event: event.kind == kind)
        return [f"{event.subject} {event.data['state']}" for event in found]

    def end_open_times(self) -> None:
        """Let the open breakers allow a probe, as they do after a minute: Redis' clock does not pass."""
        keys = self.store.keys.breakers
        for name in self.store.redis.hgetall(keys.all):
            self.store.redis.hset(keys.of(name), "until", 1)

    def breaker_failures(self) -> int:
        """Return the number of failures that the breaker of the service's recovery has counted."""
        breakers = BreakerManager(self.store.redis, self.store.keys.namespace).list()
        return sum(one.failures for one in breakers if one.name == "action:recover.service.web")

    def breaker_state(self) -> BreakerState | None:
        breakers = BreakerManager(self.store.redis, self.store.keys.namespace).list()
        return next((one.state for one in breakers if one.name == "action:recover.service.web"), None)

    def die(self) -> None:
        """The first monitor hangs, and loses the lock."""
        self.store.redis.delete(self.store.keys.locks.holder("lock:health"))
        LockManager(self.store.redis, "test").release_all("one", force=True)


@pytest.fixture
def scene(store: RunStore) -> Scene:
    scene = Scene(store)
    scene.pass_s(LEASE.total_seconds() + 30)
    return scene


def test_a_service_that_fails_is_recovered_once_and_healthy_again(scene: Scene):
    scene.fake.reports = [FAILED]
    scene.pass_s(50)
    assert (scene.record().state, scene.fake.begun) == (HealthState.RECOVERING, ["service:web"])
    scene.pass_s(60)
    assert scene.fake.begun == ["service:web"]

    scene.fake.reports, scene.fake.outcomes = [HEALTHY], {"run-1": ""}
    scene.pass_s(5)
    record = scene.record()
    assert (record.state, record.recovered, record.vain) == (HealthState.HEALTHY, 1, 0)
    states = ("degraded", "failed", "recovering", "healthy")
    assert scene.events("health.changed") == [f"service:web {state}" for state in states if state != "failed"]


def test_facts_from_before_the_end_of_a_recovery_prove_no_success(scene: Scene):
    scene.fake.reports = [FAILED]
    scene.pass_s(50)
    scene.fake.reports = [HEALTHY]  # the old process
    scene.pass_s(2.5)

    def outcome(run: str) -> str:
        scene.fake.reports = [FAILED]
        return "it does not start"

    scene.fake.outcome = outcome
    scene.pass_s(20)
    assert (scene.record().recovered, scene.record().vain) == (0, 1)
    assert len(scene.fake.begun) == 1, "the next one begins 120 s after this one"


def test_a_failed_probe_opens_the_breaker_of_a_recovery_again(scene: Scene):
    scene.fake.reports = [FAILED]
    scene.fake.outcomes = {f"run-{n}": "it does not start" for n in range(1, 10)}
    while scene.breaker_state() is not BreakerState.OPEN:
        scene.pass_s(10)
    before = len(scene.fake.begun)
    scene.end_open_times()
    scene.pass_s(125)
    assert (len(scene.fake.begun), scene.breaker_state()) == (before + 1, BreakerState.OPEN)

    scene.end_open_times()
    scene.fake.reports = [HEALTHY]
    scene.pass_s(40)
    assert scene.breaker_state() is None


def test_failed_looks_during_a_recovery_do_not_count_for_the_breaker(scene: Scene):
    scene.fake.reports = [FAILED]
    while not scene.fake.begun:
        scene.pass_s(0.5)
    before = scene.breaker_failures()
    scene.pass_s(60)
    assert scene.record().state is HealthState.RECOVERING

    assert scene.breaker_failures() == before


def test_failed_looks_after_redis_was_away_do_not_count_for_the_breaker(scene: Scene):
    scene.fake.busy, scene.fake.reports = True, [FAILED]
    while scene.record().state is not HealthState.FAILED:
        scene.pass_s(0.5)
    before = scene.breaker_failures()
    for _ in range(6):
        scene.first.failed(redis.ConnectionError("away"))
        scene.pass_s(LEASE.total_seconds() - 5)

    assert scene.breaker_failures() == before


def test_a_subject_is_given_up_after_five_vain_recoveries_and_people_are_notified_once(
    scene: Scene, tmp_path: Path
):
    bus = MessageBus(scene.store.redis, "test")
    runs = RecoveryRuns(lambda: pytest.fail("no run"), lambda: scene.declared, list, bus)
    scene.fake.tell = lambda record: (scene.fake.told.append(record.id), runs.tell(record))
    scene.fake.reports = [FAILED]
    scene.fake.outcomes = {f"run-{n}": "it does not start" for n in range(1, 10)}
    for _ in range(12):
        scene.end_open_times()
        scene.pass_s(125)

    assert len(scene.fake.begun) == 5
    assert (scene.fake.told, scene.record().given_up) == (["service:web"], True)
    assert scene.events("health.given_up") == ["service:web failed"]
    assert overall(scene.health.records()) is Overall.CRITICAL
    for recipient in ("repo:api", "person:ann"):
        (message,) = bus.peek(recipient)
        assert (message.type, message.payload["recoveries"]) == ("health", 5)
        assert (message.payload["subject"], message.payload["why"]) == ("service:web", "it does not start")
    notify = ("sh", "-c", f"cat >> {tmp_path}/told")
    assert Notifier(scene.store.redis, scene.store.keys, notify).run_once() == 1
    notice = json.loads((tmp_path / "told").read_text())
    assert (notice["event"], notice["next"]) == ("health.given_up", "coord repo health")


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0])
def test_a_clock_that_is_set_delays_no_look_and_begins_nothing_twice(scene: Scene, step_s: float):
    scene.now += step_s
    scene.pass_s(40)
    assert (scene.fake.begun, scene.record().state) == ([], HealthState.HEALTHY)
    assert abs((scene.record().looked_at or 0) - scene.now) < 35
    scene.fake.reports = [FAILED]
    scene.pass_s(50)
    assert scene.fake.begun == ["service:web"]
    scene.fake.outcomes = {"run-1": "it does not start"}
    scene.pass_s(5)
    scene.end_open_times()
    scene.now -= 3600
    scene.pass_s(125)
    assert scene.fake.begun == ["service:web"] * 2


def test_a_recovery_that_the_worker_may_not_begin_is_vain_and_says_so(scene: Scene):
    def refused(record: Health) -> str:
        raise MissingRight("worker lacks the right execute")

    scene.fake.begin, scene.fake.reports = refused, [FAILED]
    scene.pass_s(50)
    record = scene.record()
    assert (record.state, record.vain) == (HealthState.FAILED, 1)
    assert "lacks the right execute" in record.vain_why


def test_the_next_leader_follows_the_recovery_of_the_one_that_was_killed(scene: Scene):
    scene.fake.reports = [FAILED]
    scene.pass_s(50)
    assert len(scene.fake.begun) == 1
    scene.die()
    scene.pass_s(60, scene.second)
    assert (len(scene.fake.begun), scene.record().run) == (1, "run-1")

    scene.fake.reports, scene.fake.outcomes = [HEALTHY], {"run-1": ""}
    scene.pass_s(5, scene.second)
    assert scene.record().recovered == 1


def test_a_stop_ends_the_recovery_and_begins_no_other(scene: Scene):
    scene.fake.reports = [FAILED]
    scene.pass_s(50)
    scene.fake.reports = []
    scene.pass_s(300)

    assert (scene.fake.cancelled, len(scene.fake.begun)) == (["run-1"], 1)
    assert {one.id for one in scene.health.records()} == {"repo:api", "disk:h1"}


def test_services_of_other_hosts_are_reported_as_their_workers_publish_them(scene: Scene, tmp_path: Path):
    def states(**by_name: ServiceState) -> dict[str, str]:
        rows = [
            ServiceStatus(name=name, repo="api", order="1", state=state, since=time.time())
            for name, state in by_name.items()
        ]
        return {"api": json.dumps([row.model_dump(mode="json") for row in rows])}

    scene.serve(services=states(web=ServiceState.FAILED, old=ServiceState.STOPPED))
    scene.serve(
        id="coord-2@h2", host="h2", services=states(web=ServiceState.HEALTHY, db=ServiceState.HEALTHY)
    )

    there = {
        one.name: (one.host, one.state, one.away) for one in service_reports(tmp_path, "h3", scene.registry)
    }
    assert there == {"web": ("h2", "healthy", False), "db": ("h2", "healthy", False)}

    scene.store.redis.delete(scene.store.keys.worker("coord-2@h2"))
    gone = {
        one.name: (one.host, one.state, one.away) for one in service_reports(tmp_path, "h3", scene.registry)
    }
    assert gone == {"web": ("h2", "unreachable", True), "db": ("h2", "unreachable", True)}


def test_still_possible_a_report_that_was_forged_in_redis_begins_a_recovery(scene: Scene, tmp_path: Path):
    """As docs/trust.md says; where signatures are required, the run must be ordered by somebody who may."""
    forged = ServiceStatus(
        name="web", repo="api", order="1", state=ServiceState.FAILED, since=time.time()
    ).model_dump(mode="json")
    scene.serve(id="coord-2@h2", host="h2", services={"api": json.dumps([forged])})
    scene.fake.reports = list(service_reports(tmp_path, "h3", scene.registry))
    scene.pass_s(50)
    assert scene.fake.begun == ["service:web"]


def test_a_service_of_a_host_that_is_away_is_not_recovered(scene: Scene):
    scene.fake.reports = [replace(HEALTHY, state="unreachable", away=True)]
    scene.pass_s(200)
    assert (scene.record().state, scene.fake.begun) == (HealthState.UNREACHABLE, [])


def test_a_disconnected_repository_is_not_recovered(scene: Scene):
    scene.store.redis.hset(scene.store.keys.disconnected, "api", "{}")
    scene.fake.reports = [FAILED]
    scene.pass_s(200)
    assert (scene.fake.begun, scene.record().state) == ([], HealthState.DISCONNECTED)
    assert overall(scene.health.records()) is Overall.HEALTHY


def test_a_recovery_waits_for_a_person_who_changes_the_service(scene: Scene):
    scene.fake.busy, scene.fake.reports = True, [FAILED]
    scene.pass_s(60)
    assert (scene.fake.begun, scene.record().vain) == ([], 0)
    scene.fake.busy = False
    scene.pass_s(15)
    assert scene.fake.begun == ["service:web"]


@pytest.mark.parametrize(
    ("facts", "subject", "state"),
    [
        ({"unfit": {"api": "there is no folder /x"}}, "repo:api", HealthState.FAILED),
        ({"broken": {"api": "git cannot use /x: its HEAD is damaged"}}, "repo:api", HealthState.FAILED),
        ({"repos": ()}, "repo:api", HealthState.UNREACHABLE),
        ({"short": "less than disk_min is free in /x"}, "disk:h1", HealthState.FAILED),
    ],
)
def test_what_workers_tell_is_found(scene: Scene, facts: dict[str, object], subject: str, state: HealthState):
    scene.serve(**facts)
    scene.pass_s(50)
    assert scene.record(subject).state is state


def test_a_queue_that_grows_without_pause_makes_its_repository_fail(scene: Scene):
    queue = scene.store.keys.queue("api")
    for _ in range(12):
        scene.store.redis.rpush(queue, "a", "b", "c")
        scene.pass_s(30)
    assert "its queue grows" in scene.record("repo:api").why


def test_rounds_without_news_write_nothing_but_a_mark_every_two_seconds(scene: Scene):
    scene.pass_s(60)
    scene.store.redis.config_resetstat()
    rounds = scene.pass_s(30)
    writes = scene.store.redis.info("commandstats")["cmdstat_exec"]["calls"]
    assert writes <= 15 + sum(1 for one in rounds if one.looked_at) < len(rounds) / 2


def test_damaged_records_are_written_again(scene: Scene):
    scene.store.redis.hset(scene.store.keys.health, mapping={"service:web": "{", "repo:api": "\x1b[31m"})
    scene.die()
    scene.pass_s(60, scene.second)
    rows = scene.store.redis.hgetall(scene.store.keys.health)
    assert json.loads(rows["service:web"])["verdict"] == "healthy"
    assert len(scene.health.records()) == 3


def test_500_remotes_that_hang_do_not_delay_others(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    hang: Callable[..., str] = lambda url, *_, **__: "" if "good" in url else time.sleep(0.05) or "hangs"  # noqa: E731
    monkeypatch.setattr("coordination.health.remotes.ls_remote", hang)
    monkeypatch.setattr("coordination.health.remotes.TRY_AGAIN_S", 0.0)
    names = [f"r{n}" for n in range(500)] + ["good"]
    declared = Ecosystem(repos=tuple(Repo(name=name, url=f"https://h/{name}") for name in names))
    health = HealthStore(store.redis, store.keys)
    looks = RemoteLooks(health, lambda: declared, dict.fromkeys(names, tmp_path), "h1", every_s=0.5)
    looks.start()
    try:
        until(lambda: len(health.remotes()) == 501)
    finally:
        looks.stop()
    assert [name for name, (report,) in health.remotes().items() if report.healthy] == ["good"]


def test_a_remote_that_hangs_is_given_up_in_time_and_one_that_asks_has_answered(tmp_path: Path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listens:
        port = listens.getsockname()[1]
        began = time.monotonic()
        why = ls_remote(f"http://127.0.0.1:{port}/x.git", timeout_s=0.5)
    assert "did not answer" in why
    assert time.monotonic() - began < 30
    git(tmp_path, "init", "-q", "-b", "main", str(remote := tmp_path / "remote"))
    git(remote, "commit", "-q", "--allow-empty", "-m", "first")
    repo = Repo(name="r", url=str(remote), branch="main")
    assert ls_remote(str(remote), repo) == ""
    git(remote, "branch", "-m", "main", "trunk")
    assert "branch: trunk" in ls_remote(str(remote), repo)
    assert str(tmp_path / "nothing") in ls_remote(str(tmp_path / "nothing"))  # and not git's advice alone


def test_a_remote_that_is_a_path_is_looked_at_from_the_checkout(store: RunStore, tmp_path: Path):
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "hub.git"], check=True)
    (tmp_path / "api").mkdir()
    declared = Ecosystem(repos=(Repo(name="api", url="../hub.git"), Repo(name="web", url="../none.git")))
    declared_names = {"api", "web"}  # threads of the test before may still report others
    served = dict.fromkeys(declared_names, tmp_path / "api")
    health = HealthStore(store.redis, store.keys)
    looks = RemoteLooks(health, lambda: declared, served, "h1", every_s=0.5)
    looks.start()
    try:
        until(lambda: health.remotes().keys() >= declared_names)
    finally:
        looks.stop()

    assert {name: health.remotes()[name][0].healthy for name in declared_names} == {"api": True, "web": False}


@pytest.mark.parametrize(("password", "healthy"), [("right", True), ("wrong", False)])
def test_a_remote_that_asks_for_a_login_is_asked_with_the_credential_of_the_host(
    store: RunStore, tmp_path: Path, password: str, healthy: bool
):
    answer = tmp_path / "askpass"
    answer.write_text(f"#!/bin/sh\ncase $1 in User*) echo u;; *) echo {password};; esac\n")
    answer.chmod(0o700)
    health = HealthStore(store.redis, store.keys)
    with GitServer(tmp_path / "hub") as server:
        server.create("api")
        server.behave("api", login="u:right")
        declared = Ecosystem(repos=(Repo(name="api", url=server.url("api")),))
        access = lambda repo, url: nullcontext({"GIT_ASKPASS": str(answer)})  # noqa: E731
        looks = RemoteLooks(health, lambda: declared, {"api": tmp_path}, "h1", access=access, every_s=0.5)
        looks.start()
        try:
            until(lambda: "api" in health.remotes())
        finally:
            looks.stop()

    (report,) = health.remotes()["api"]
    assert (report.healthy, "refuses the credential" in report.why) == (healthy, not healthy)


def test_a_monitor_that_is_made_while_redis_refuses_starts_in_a_later_round(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
):
    scene = Scene(store)
    with monkeypatch.context() as refusing:
        refusing.setattr(LockManager, "guard", _refused)
        monitor = scene.monitor("three")
        with pytest.raises(redis.ResponseError):
            monitor.run_once()

    assert sum(one.looked_at for one in scene.pass_s(5, monitor)) > 0


def _refused(_locks: LockManager, _name: str) -> None:
    raise redis.ResponseError("OOM command not allowed")
