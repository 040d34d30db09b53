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
from tests.stage import PLAN, Stage
from tests.waiting import until


@pytest.fixture
def gate(stage: Stage) -> Gate:
    """A plan whose first todo waits at it."""
    gate = Gate(stage.folder)
    stage.write(
        [{"id": "A", "repo": "api", "action": gate.action}, {"id": "B", "repo": "web", "blocked_by": ["A"]}]
    )
    return gate


def kill(stage: Stage, name: str) -> Record:
    record = stage.daemon(name)
    os.kill(record.pid, signal.SIGKILL)
    until(lambda: not alive(record))
    return record


def again(stage: Stage, died: Record, name: str) -> Record:
    """The next one, as soon as it runs."""

    def running() -> Record | None:
        record = Daemon(stage.state, name).running()
        return record if record and record.pid != died.pid else None

    return until(running)


def test_a_worker_that_is_killed_in_the_middle_of_a_sweep_is_started_again_and_the_run_succeeds(
    stage: Stage, gate: Gate
) -> None:
    sweep = stage.begin("sweep", PLAN)
    begun = gate.wait()
    os.kill(stage.daemon("worker").pid, DUMP_STACKS)  # and it goes on
    until(lambda: "most recent call first" in (stage.state / "worker.log").read_text())

    died = kill(stage, "worker")
    sweep.says(f"the worker (pid {died.pid}) died")
    until(lambda: gate.wait() != begun)
    gate.open()

    told = stage.coord("doctor", "--json")

    assert sweep.done().code == 0
    assert [(restart["name"], restart["died"]) for restart in told.json["restarts"]] == [("worker", died.pid)]
    assert told.code == 0  # it is a warning
    assert f"(pid {died.pid}) died" in (stage.state / "worker.log").read_text()
    until(lambda: not list(stage.alive()))


def test_what_up_detached_started_is_started_again_whatever_is_killed(stage: Stage, gate: Gate) -> None:
    stage.ok("up", "--detach")
    stage.ok("sweep", PLAN, "--detach")
    begun = gate.wait()

    died = {name: kill(stage, name) for name in ("worker", "server", "flower")}
    now = {name: again(stage, record, name) for name, record in died.items()}
    until(lambda: gate.wait() != begun)
    gate.open()
    watched = stage.coord("watch")

    assert watched.code == 0
    assert {name: record.facts for name, record in now.items()} == {
        name: record.facts for name, record in died.items()
    }
    stage.ok("down")
    until(lambda: not list(stage.alive()))


def test_the_next_command_takes_up_what_lost_its_supervisor_and_its_worker(stage: Stage, gate: Gate) -> None:
    stage.up()
    stage.ok("sweep", PLAN, "--detach")
    begun = gate.wait()
    kill(stage, "supervisor")
    died = kill(stage, "worker")

    stage.ok("list-runs")

    again(stage, died, "worker")
    until(lambda: gate.wait() != begun)
    gate.open()
    assert stage.coord("watch").code == 0


def restarted_often(state: Path) -> None:
    for _ in range(LIMIT):
        Restarts(state).add(Restart(name="worker", at=time.time(), died=1, pid=1))


def test_a_sweep_whose_worker_dies_too_often_ends_with_7_and_the_next_one_may_begin_anew(
    stage: Stage, gate: Gate
) -> None:
    sweep = stage.begin("sweep", PLAN)
    gate.wait()
    restarted_often(stage.state)
    kill(stage, "worker")

    ended = sweep.done()

    assert ended.code == 7
    assert str(stage.state / "worker.log") in ended.err
    gate.open()
    stage.up()
    assert Restarts(stage.state).read() == ()
    assert stage.coord("watch").code == 0
