"""`coord up` and `coord down` start and stop the services of the file."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coordination.backend.daemon import alive
from coordination.services.host import ServiceHost
from tests.testbed import Testbed
from tests.waiting import until

UP = ("up", "--detach", "--no-flower")


@pytest.fixture
def testbed(new_testbed: Callable[[], Testbed]) -> Iterator[Testbed]:
    testbed = new_testbed()
    yield testbed
    ServiceHost(testbed.state).stop_all()


def write(testbed: Testbed, **commands: str) -> None:
    """Write a file with a todo, and services that each need the one before."""
    names = list(commands)
    services: list[dict[str, Any]] = [
        {"name": name, "repo": "api", "command": command, "depends_on": names[max(0, at - 1) : at]}
        for at, (name, command) in enumerate(commands.items())
    ]
    testbed.write([{"id": "TODO-001", "repo": "api"}], services=services)


def test_services_come_up_before_other_work_are_adopted_and_stop_in_reverse_order(testbed: Testbed):
    sleep = "exec sleep 600"
    write(testbed, first=f"sleep 2; {sleep}", second=sleep, third=sleep)
    begun = testbed.begin(*UP)
    begun.says("run ")
    swept = testbed.sweep().json
    assert begun.done().code == 0
    (last,) = (run for run in testbed.ok("list-runs", "--json").json if run["plan_id"] == "service:start")
    assert swept["todos"][0]["started_at"] >= testbed.run(last["run_id"])["finished_at"]

    host = ServiceHost(testbed.state)
    pids = {name: one.pid for name, one in host.states().items()}
    testbed.kill("server")
    testbed.kill("worker")
    record = host.supervisor.running()
    assert record
    os.kill(record.pid, signal.SIGKILL)
    until(lambda: not alive(record))
    testbed.ok(*UP)
    assert {name: one.pid for name, one in host.states().items()} == pids

    down = testbed.ok("down").err
    assert [line for line in down.splitlines() if "service" in line] == [
        f"stopped: service {name}" for name in ("third", "second", "first")
    ]
    assert not any(host.daemon(name).running() for name in pids)


def test_up_stays_and_tells_a_failed_service(testbed: Testbed):
    write(testbed, broken="exit 3")
    assert testbed.coord(*UP).code == 3
    assert testbed.sweep().code == 0
    testbed.ok("down")


def test_up_returns_while_somebody_else_waits_for_a_service(testbed: Testbed):
    service = {"name": "slow", "repo": "api", "command": "exec sleep 600", "probe": {"command": "false"}}
    testbed.write([{"id": "TODO-001", "repo": "api"}], services=[{**service, "start_timeout": "10m"}])
    starting = testbed.begin("service", "start", "slow")
    starting.says("slow")

    up = testbed.coord(*UP, "--no-dashboard")

    assert (up.code, "the services are not started here" in up.err) == (0, True)
    starting.kill()


def test_up_returns_while_a_service_waits_for_a_host_that_is_away(testbed: Testbed):
    write(testbed, there="exec sleep 600", behind="exec sleep 600")
    testbed.ok(*UP, "--no-dashboard", COORD_HOST="elsewhere")
    testbed.kill("worker")

    up = testbed.coord(*UP, "--no-dashboard", COORD_HOST="here")

    (waiting,) = (one for one in testbed.ok("list-runs", "--json").json if one["status"] == "running")
    assert (up.code, f"coord watch {waiting['run_id']}" in up.err) == (0, True)
    assert testbed.sweep().code == 0
