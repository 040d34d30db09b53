"""Story: processes of this machine are killed, and what people wait for goes on by itself."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from coordination.backend.daemon import Daemon, Record, alive
from coordination.operations.supervision import LIMIT, Restart, Restarts
from coordination.processes import DUMP_STACKS
from tests.acceptance.gate import Gate
from tests.testbed import PLAN, Testbed
from tests.waiting import until


@pytest.fixture
def gate(testbed: Testbed) -> Gate:
    """A plan whose first todo waits at it."""
    gate = Gate(testbed.folder)
    testbed.write(
        [{"id": "A", "repo": "api", "action": gate.action}, {"id": "B", "repo": "web", "blocked_by": ["A"]}]
    )
    return gate


def kill(testbed: Testbed, name: str) -> Record:
    record = testbed.daemon(name)
    os.kill(record.pid, signal.SIGKILL)
    until(lambda: not alive(record))
    return record


def again(testbed: Testbed, died: Record, name: str) -> Record:
    """The next one, as soon as it runs."""

    def running() -> Record | None:
        record = Daemon(testbed.state, name).running()
        return record if record and record.pid != died.pid else None

    return until(running)


def test_a_worker_that_is_killed_in_the_middle_of_a_sweep_is_started_again_and_the_run_succeeds(
    testbed: Testbed, gate: Gate
) -> None:
    sweep = testbed.begin("sweep", PLAN)
    begun = gate.wait()
    os.kill(testbed.daemon("worker").pid, DUMP_STACKS)  # and it goes on
    until(lambda: "most recent call first" in (testbed.state / "worker.log").read_text())

    died = kill(testbed, "worker")
    sweep.says(f"the worker (pid {died.pid}) died")
    until(lambda: gate.wait() != begun)
    gate.open()

    told = testbed.coord("doctor", "--json")

    assert sweep.done().code == 0
    assert [(restart["name"], restart["died"]) for restart in told.json["restarts"]] == [("worker", died.pid)]
    assert told.code == 0  # it is a warning
    assert f"(pid {died.pid}) died" in (testbed.state / "worker.log").read_text()
    until(lambda: not list(testbed.alive()))


def test_what_up_detached_started_is_started_again_whatever_is_killed(testbed: Testbed, gate: Gate) -> None:
    testbed.ok("up", "--detach")
    testbed.ok("sweep", PLAN, "--detach")
    begun = gate.wait()

    died = {name: kill(testbed, name) for name in ("worker", "server", "flower")}
    now = {name: again(testbed, record, name) for name, record in died.items()}
    until(lambda: gate.wait() != begun)
    gate.open()
    watched = testbed.coord("watch")

    assert watched.code == 0
    assert {name: record.facts for name, record in now.items()} == {
        name: record.facts for name, record in died.items()
    }
    testbed.ok("down")
    until(lambda: not list(testbed.alive()))


def restarted_often(state: Path) -> None:
    for _ in range(LIMIT):
        Restarts(state).add(Restart(name="worker", at=time.time(), died=1, pid=1))


def test_a_sweep_whose_worker_dies_too_often_ends_with_7_and_the_next_one_may_begin_anew(
    testbed: Testbed, gate: Gate
) -> None:
    sweep = testbed.begin("sweep", PLAN)
    gate.wait()
    restarted_often(testbed.state)
    kill(testbed, "worker")

    ended = sweep.done()

    assert ended.code == 7
    assert str(testbed.state / "worker.log") in ended.err
    gate.open()
    testbed.up()
    assert Restarts(testbed.state).read() == ()
    assert testbed.coord("watch").code == 0
