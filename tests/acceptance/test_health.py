"""`coord repo health`, recovery and disconnected repositories, with real processes."""

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
from tests.testbed import Testbed
from tests.waiting import until

REPOS = ("api", "web")
IN_TIME_S = 90.0


@pytest.fixture(scope="module")
def testbed(new_testbed: Callable[[], Testbed]) -> Testbed:
    testbed = new_testbed()
    testbed.settings = {"lease_ttl": "6s", "heartbeat": "500ms", "health_interval": "2s"}
    testbed.write(repos=REPOS)
    testbed.up()
    return testbed


@pytest.fixture(autouse=True)
def restored(testbed: Testbed) -> Iterator[None]:
    """Leave nothing of a test that failed half-way to the next one."""
    yield
    testbed.coord("repo", "connect", "api")  # exit code 2 if it is connected
    testbed.coord("service", "stop")
    testbed.coord("cancel", "last")
    for process in testbed.started:
        process.kill()


def declared(testbed: Testbed, name: str, **more: Any) -> None:
    """Declare a service of its own for each test: five failed looks of one service, over all tests, open its
    breaker for a minute.
    """
    service = {"name": name, "repo": "api", "restart": "no", "required": True, **more}
    testbed.write(repos=REPOS, services=[service])


def found(testbed: Testbed, subject: str) -> Health | None:
    """Return the record of the monitor, without a process of ours for each look."""
    with connect(testbed.server.start(), Profile.COMMAND) as client:
        records = HealthStore(client, Keys(Settings().namespace)).records()
    return next((one for one in records if one.id == subject), None)


def reaches(testbed: Testbed, subject: str, state: str) -> None:
    until(lambda: (one := found(testbed, subject)) is not None and one.state == state, IN_TIME_S)


def recovered(testbed: Testbed, service: str) -> None:
    until(lambda: (one := found(testbed, f"service:{service}")) is not None and one.recovered > 0, IN_TIME_S)


def pid_of(testbed: Testbed, service: str) -> int:
    return testbed.ok("service", "show", service, "--json").json["pid"]


def test_a_hung_service_comes_back_and_a_stopped_one_does_not(testbed: Testbed):
    port = free_port()
    serve = f"exec python3 -m http.server --bind 127.0.0.1 {port}"
    probe = {"http": {"url": f"http://127.0.0.1:{port}/"}, "timeout": "1s", "every": "500ms"}
    declared(testbed, "store", command=serve, probe=probe, stop_grace="500ms")
    testbed.ok("service", "start")
    reaches(testbed, "service:store", "healthy")
    assert testbed.ok("repo", "health").code == 0

    hung = pid_of(testbed, "store")
    os.kill(hung, signal.SIGSTOP)
    recovered(testbed, "store")
    assert pid_of(testbed, "store") != hung

    testbed.ok("service", "stop")
    until(lambda: found(testbed, "service:store") is None, IN_TIME_S)
    assert testbed.ok("repo", "health").code == 0


def test_a_leader_that_is_killed_while_a_service_comes_back_leaves_it_to_another_worker(testbed: Testbed):
    command = "echo start >> starts; sleep 3; exec sleep 600"
    declared(testbed, "slow", command=command, probe={"command": "sleep 3"})
    testbed.ok("service", "start")
    reaches(testbed, "service:slow", "healthy")
    other = testbed.begin("worker", "--all")
    other.says("ready")
    os.kill(pid_of(testbed, "slow"), signal.SIGKILL)
    reaches(testbed, "service:slow", "recovering")
    assert testbed.coord("repo", "health", "slow").code == 3
    with connect(testbed.server.start(), Profile.COMMAND) as client:
        monitor = HealthStore(client, Keys(Settings().namespace)).monitor()
    assert monitor is not None
    leader = int(monitor.worker.partition("@")[0].rpartition("-")[2])
    os.kill(leader, signal.SIGKILL)
    recovered(testbed, "slow")
    assert (testbed.folder / "api" / "starts").read_text().split() == ["start"] * 2
    other.kill()
    testbed.ok("service", "stop")


def test_nothing_starts_in_a_disconnected_repository_and_what_runs_is_handed_back(testbed: Testbed):
    testbed.write(
        [{"id": "long", "repo": "api", "action": "sleep 600"}, {"id": "other", "repo": "web"}], repos=REPOS
    )
    run = testbed.ok("sweep", "PLAN-001", "--detach", "--json").json["run_id"]

    def todos() -> dict[str, Any]:
        return {one["id"]: one for one in testbed.run(run)["todos"]}

    until(lambda: todos()["long"]["state"] == "running", IN_TIME_S)
    done = testbed.ok("repo", "disconnect", "api", "--reason", "\x1b[31mfire", "--json").json
    assert done["handed_back"] == [f"{run} long"]
    until(lambda: todos()["long"]["wait_reason"] == "disconnected", IN_TIME_S)
    until(lambda: todos()["other"]["state"] == "succeeded", IN_TIME_S)
    reaches(testbed, "repo:api", "disconnected")

    died = testbed.daemon("server")
    os.kill(died.pid, signal.SIGKILL)
    until(lambda: Daemon(testbed.state, "server").running() not in (None, died))
    testbed.ok("exec", "--repo", "web", "--", "true")
    assert todos()["long"]["wait_reason"] == "disconnected"

    assert testbed.coord("repo", "disconnect", "nothing").code == 2
    testbed.ok("repo", "connect", "api")
    until(lambda: todos()["long"]["state"] == "running", IN_TIME_S)
    testbed.ok("cancel", run)
    assert testbed.coord("repo", "connect", "api").code == 2


def test_a_damaged_repository_and_a_missing_folder_are_found(testbed: Testbed):
    testbed.write(repos=REPOS)
    head = testbed.folder / "web" / ".git" / "HEAD"
    text = head.read_text()
    head.write_text("damaged")
    reaches(testbed, "repo:web", "failed")
    assert "HEAD is damaged" in testbed.coord("repo", "health", "web").out
    assert testbed.coord("repo", "health", "web").code == 3
    testbed.write([{"id": "one", "repo": "web", "gate": {}}], repos=REPOS)
    begun = testbed.coord("sweep", "PLAN-001", "--detach")
    assert "web is failed: " in begun.err
    testbed.ok("cancel", "last")
    head.write_text(text)
    reaches(testbed, "repo:web", "healthy")
    assert testbed.coord("repo", "health", "nothing").code == 2
