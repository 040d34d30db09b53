"""Stories: a run is paused, resumed and cancelled from another terminal, and ended when its time is up."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from coordination.backend.daemon import alive
from tests.acceptance.gate import Gate
from tests.testbed import PLAN, Testbed
from tests.waiting import until


@pytest.fixture
def gate(testbed: Testbed) -> Iterator[Gate]:
    """A run that has begun: its first todo waits at the gate, and two others follow it in two repositories.

    Heartbeats are an hour apart, so that only the command itself can reach a worker in time.
    """
    gate = Gate(testbed.folder)
    testbed.settings = {"kill_grace": "500ms", "heartbeat": "1h", "lease_ttl": "4h"}
    testbed.write(
        [
            {"id": "A", "repo": "api", "action": gate.action},
            {"id": "B", "repo": "api", "action": "true", "blocked_by": ["A"]},
            {"id": "C", "repo": "web", "action": "true", "blocked_by": ["A"]},
        ]
    )
    assert testbed.sweep("--detach").code == 0
    gate.wait()
    yield gate
    gate.open()


def test_a_paused_run_lets_its_running_todo_finish_and_starts_nothing_until_it_is_resumed(
    testbed: Testbed, gate: Gate
) -> None:
    run = testbed.run()["run_id"]
    watch = testbed.begin("watch")
    second = testbed.sweep()
    running = testbed.coord("run", "resume")
    testbed.ok("run", "pause")
    testbed.ok("run", "resume")
    log = until(
        lambda: lines if len(lines := testbed.ok("logs", "last", "A").out.splitlines()) == 2 else None
    )
    testbed.ok("run", "pause")
    paused = testbed.coord("run", "pause")
    told = watch.says("paused")
    gate.open()
    until(lambda: testbed.shown().states["A"] == "succeeded")
    waiting = testbed.shown()
    resumed = testbed.coord("run", "resume", run)

    for refused, reason in (
        (second, f"run {run} of {PLAN} is running and executes"),
        (second, f"coord cancel {run}"),
        (running, f"run {run} cannot be resumed: it is running"),
        (paused, f"run {run} is paused already\n  continue it: coord run resume"),
    ):
        assert (refused.code, reason in refused.err) == (6, True), refused.err
    assert re.fullmatch(r"\[coord\] paused by \S+@\S+: this todo may finish, nothing new starts", log[0])
    assert re.fullmatch(r"\[coord\] resumed by \S+@\S+", log[1])
    assert told.strip() == f"· the run is paused: coord run resume {run}"
    assert waiting.json["status"] == "paused"
    assert {waiting.states[name] for name in ("B", "C")} <= {"ready", "waiting", "parked"}
    assert (resumed.code, watch.wait(60)) == (0, 0)
    assert set(testbed.shown().states.values()) == {"succeeded"}


@pytest.mark.parametrize("waits", [True, False])
def test_a_cancelled_run_ends_with_its_running_todo_keeps_its_worktrees_and_is_seen_to_end(
    testbed: Testbed, gate: Gate, waits: bool
) -> None:
    watch = testbed.begin("watch")
    shell, good = gate.wait(), testbed.file.read_text()
    testbed.file.write_text(f"{good}\n  oops")
    cancelled = testbed.coord("cancel", *(() if waits else ("--no-wait",)))
    testbed.file.write_text(good)
    if waits:
        assert not alive(shell)
    else:
        assert "is being cancelled" in cancelled.err
    followed = watch.done()
    again = testbed.coord("cancel")

    assert cancelled.code == 0
    assert "its settings are not read" in cancelled.err, "a file that is being edited hinders nobody"
    assert (followed.code, "cancelled" in followed.out, "A  api" in followed.err) == (1, True, True)
    ended = testbed.shown()
    assert ended.json["status"] == "cancelled"
    assert ended.states == {"A": "cancelled", "B": "cancelled", "C": "cancelled"}
    assert re.fullmatch(r"cancelled by \S+@\S+", ended.todo("B")["error"])
    assert not alive(shell)
    assert (testbed.state / "worktrees" / ended.json["run_id"] / "api").is_dir()
    assert (again.code, "cannot be cancelled: it ended as cancelled at 20" in again.err) == (6, True)


def test_a_run_whose_worker_died_can_be_cancelled_with_nobody_there(testbed: Testbed, redis_url: str) -> None:
    gate = Gate(testbed.folder)
    testbed.env = {"COORD_REDIS_URL": redis_url}  # no command starts another worker, which would give A up
    testbed.settings = {"heartbeat": "200ms", "lease_ttl": "8s"}
    testbed.write([{"id": "A", "repo": "api", "action": gate.action}])
    worker = testbed.begin("worker", "--all")
    assert testbed.sweep("--detach").code == 0
    gate.wait()
    worker.kill()
    worker.wait()

    cancelled = testbed.coord("cancel", "--json")
    watched = testbed.coord("watch")

    assert (cancelled.code, cancelled.json["status"]) == (0, "cancelled")
    assert "A ran on" in cancelled.err or "A is being stopped" in cancelled.err
    assert "lost its worker" not in cancelled.err
    assert re.search(r"! A lost its worker \S+: it is given up\n", watched.err)


def test_a_resumed_run_that_nobody_serves_says_so_until_the_next_command_has_started_a_worker(
    testbed: Testbed, gate: Gate
) -> None:
    testbed.ok("run", "pause")
    paused = testbed.ok("show-run")
    gate.open()
    until(lambda: testbed.shown().states["A"] == "succeeded")
    testbed.ok("down")

    resumed = testbed.ok("run", "resume")

    assert "· the run is paused: coord run resume" in paused.out
    assert "it waits for a worker for api: none serves it\n  coord worker --repo api=PATH" in resumed.err
    testbed.up()
    assert testbed.coord("watch").code == 0


FOR_EVER = "while true; do sleep 0.05; done"


def test_a_run_that_nobody_follows_is_ended_when_its_time_is_up(testbed: Testbed):
    todos = [
        {"id": "A", "repo": "api"},
        {"id": "B", "repo": "api", "action": FOR_EVER, "blocked_by": ["A"], "timeout": "1h"},
        {"id": "C", "repo": "web", "blocked_by": ["B"]},
    ]
    testbed.settings = {"kill_grace": "500ms"}
    testbed.write(todos, plan={"timeout": "1h"})
    testbed.up()
    testbed.ok("sweep", PLAN, "--detach", "--timeout", "5s")
    until(lambda: testbed.run()["status"] == "cancelled")

    run = testbed.run()
    assert (run["timeout_s"], run["timed_out"]) == (5, "timed out after 5 s")
    assert testbed.shown().states == {"A": "succeeded", "B": "cancelled", "C": "cancelled"}


def test_an_executed_todo_is_stopped_after_the_timeout_that_is_asked_for(testbed: Testbed):
    testbed.write([{"id": "A", "repo": "api", "action": FOR_EVER, "timeout": "1h"}])

    ended = testbed.coord("todo", "execute", "A", "--timeout", "300ms", "--json")

    assert (ended.code, ended.json["status"]) == (3, "failed")
    assert "0.3 s" in ended.todo("A")["error"]
    assert testbed.coord("todo", "execute", "A", "--timeout", "soon").code == 2
