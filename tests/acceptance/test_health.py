"""`coord health`, recovery and disconnected repositories, with real processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coordination.backend.client import Profile, connect
from coordination.backend.daemon import Daemon
from coordination.backend.keys import Keys
from coordination.health.records import Health
from coordination.health.store import HealthStore
from coordination.settings import Settings
from tests.ports import free_port
from tests.stage import Stage
from tests.waiting import until

REPOS = ("api", "web")
IN_TIME_S = 90.0


@pytest.fixture(scope="module")
def stage(new_stage: Callable[[], Stage]) -> Iterator[Stage]:
    stage = new_stage()
    stage.settings = {"lease_ttl": "6s", "heartbeat": "500ms", "health_interval": "2s"}
    stage.write(repos=REPOS)
    stage.up()
    yield stage
    stage.coord("service", "stop")


def declared(stage: Stage, name: str, **more: Any) -> None:
    """Declare a service of its own for each test: five failed looks of one service, over all tests, open its
    breaker for a minute.
    """
    service = {"name": name, "repo": "api", "restart": "no", "required": True, **more}
    stage.write(repos=REPOS, services=[service])


def found(stage: Stage, subject: str) -> Health | None:
    """Return the record of the monitor, without a process of ours for each look."""
    with connect(stage.server.start(), Profile.COMMAND) as client:
        records = HealthStore(client, Keys(Settings().namespace)).records()
    return next((one for one in records if one.id == subject), None)


def reaches(stage: Stage, subject: str, state: str) -> None:
    until(lambda: (one := found(stage, subject)) is not None and one.state == state, IN_TIME_S)


def recovered(stage: Stage, service: str, times: int) -> None:
    """Wait until it was recovered so often; on a slow machine it may fail, and recover, once more."""
    until(
        lambda: (one := found(stage, f"service:{service}")) is not None and one.recovered >= times, IN_TIME_S
    )


def pid_of(stage: Stage, service: str) -> int:
    return stage.ok("service", "show", service, "--json").json["pid"]


def test_a_killed_service_and_a_hung_one_come_back_and_a_stopped_one_does_not(stage: Stage):
    port = free_port()
    serve = f"exec python3 -m http.server --bind 127.0.0.1 {port}"
    probe = {"http": {"url": f"http://127.0.0.1:{port}/"}, "timeout": "1s", "every": "500ms"}
    declared(stage, "store", command=serve, probe=probe, stop_grace="500ms")
    stage.ok("service", "start")
    reaches(stage, "service:store", "healthy")
    assert stage.ok("health").code == 0

    os.kill(pid_of(stage, "store"), signal.SIGKILL)
    recovered(stage, "store", 1)

    hung = pid_of(stage, "store")
    os.kill(hung, signal.SIGSTOP)
    recovered(stage, "store", 2)
    assert pid_of(stage, "store") != hung

    stage.ok("service", "stop")
    until(lambda: found(stage, "service:store") is None, IN_TIME_S)
    assert stage.ok("health").code == 0


def test_a_leader_that_is_killed_while_a_service_comes_back_leaves_it_to_another_worker(stage: Stage):
    command = "echo start >> starts; sleep 3; exec sleep 600"
    declared(stage, "slow", command=command, probe={"command": "sleep 3"})
    stage.ok("service", "start")
    reaches(stage, "service:slow", "healthy")
    other = stage.begin("worker", "--all")
    other.says("ready")
    os.kill(pid_of(stage, "slow"), signal.SIGKILL)
    reaches(stage, "service:slow", "recovering")
    assert stage.coord("health", "slow").code == 1
    with connect(stage.server.start(), Profile.COMMAND) as client:
        monitor = HealthStore(client, Keys(Settings().namespace)).monitor()
    assert monitor is not None
    leader = int(monitor.worker.partition("@")[0].rpartition("-")[2])
    os.kill(leader, signal.SIGKILL)
    recovered(stage, "slow", 1)
    assert (stage.folder / "api" / "starts").read_text().split() == ["start"] * 2
    other.kill()
    stage.ok("service", "stop")


def test_nothing_starts_in_a_disconnected_repository_and_what_runs_is_handed_back(stage: Stage):
    stage.write(
        [{"id": "long", "repo": "api", "action": "sleep 600"}, {"id": "other", "repo": "web"}], repos=REPOS
    )
    run = stage.ok("sweep", "PLAN-001", "--detach", "--json").json["run_id"]

    def todos() -> dict[str, Any]:
        return {one["id"]: one for one in stage.run(run)["todos"]}

    until(lambda: todos()["long"]["state"] == "running", IN_TIME_S)
    done = stage.ok("repo", "disconnect", "api", "--reason", "\x1b[31mfire", "--json").json
    assert done["handed_back"] == [f"{run} long"]
    until(lambda: todos()["long"]["wait_reason"] == "disconnected", IN_TIME_S)
    assert todos()["other"]["state"] == "succeeded"
    reaches(stage, "repo:api", "disconnected")

    died = stage.daemon("server")
    os.kill(died.pid, signal.SIGKILL)
    until(lambda: Daemon(stage.state, "server").running() not in (None, died))
    stage.ok("exec", "--repo", "web", "--", "true")
    assert todos()["long"]["wait_reason"] == "disconnected"

    assert stage.coord("repo", "disconnect", "nothing").code == 2
    stage.ok("repo", "connect", "api")
    until(lambda: todos()["long"]["state"] == "running", IN_TIME_S)
    stage.ok("cancel", run)
    assert stage.coord("repo", "connect", "api").code == 2


def test_a_damaged_repository_and_a_missing_folder_are_found(stage: Stage):
    stage.write(repos=REPOS)
    head = stage.folder / "web" / ".git" / "HEAD"
    text = head.read_text()
    head.write_text("damaged")
    reaches(stage, "repo:web", "failed")
    assert "HEAD is damaged" in stage.coord("health", "web").out
    assert stage.coord("health", "web").code == 3
    stage.write([{"id": "one", "repo": "web", "gate": {}}], repos=REPOS)
    begun = stage.coord("sweep", "PLAN-001", "--detach")
    assert "web is failed: " in begun.err
    stage.ok("cancel", "last")
    head.write_text(text)
    reaches(stage, "repo:web", "healthy")
    assert stage.coord("health", "nothing").code == 2
