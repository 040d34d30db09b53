"""Steering a run from another terminal reaches its workers at once: their heartbeats are an hour
apart here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.gate import Gate
from tests.stage import Stage
from tests.waiting import until

RARELY = {"heartbeat": "1h", "lease_ttl": "4h"}


@pytest.fixture
def gate(stage: Stage) -> Iterator[Gate]:
    gate = Gate(stage.folder)
    stage.settings = {**RARELY, "kill_grace": "500ms"}
    stage.write([{"id": "A", "repo": "api", "action": gate.action}])
    stage.up()
    stage.ok("sweep", "PLAN-001", "--detach")
    gate.wait()
    yield gate
    gate.open()


def test_a_cancel_ends_what_runs_before_the_next_heartbeat(stage: Stage, gate: Gate):
    pid = gate.wait()

    stage.ok("cancel")

    until(lambda: not Path(f"/proc/{pid}").exists(), 60)
    until(lambda: stage.shown().states == {"A": "cancelled"}, 60)


def test_a_todo_that_runs_while_its_run_is_paused_has_that_in_its_log(stage: Stage, gate: Gate):
    stage.ok("pause")
    stage.ok("resume")

    told = until(
        lambda: lines if len(lines := stage.ok("logs", "last", "A").out.splitlines()) == 2 else None, 20
    )
    assert re.fullmatch(r"\[coord\] paused by \S+@\S+: this todo may finish, nothing new starts", told[0])
    assert re.fullmatch(r"\[coord\] resumed by \S+@\S+", told[1])


def test_a_worker_that_stops_leaves_no_inbox(stage: Stage):
    stage.write([{"id": "A", "repo": "api"}])
    worker = stage.begin("worker", "--all", COORD_REDIS_URL=stage.server.start())
    worker.says("serving")
    client = stage.redis()
    (known,) = client.zrange("coord:workers", 0, -1)
    assert client.zrange("coord:recipients", 0, -1) == [f"worker:{known}"]

    worker.terminate()

    assert worker.wait(30) == 0
    assert client.zrange("coord:recipients", 0, -1) == []
