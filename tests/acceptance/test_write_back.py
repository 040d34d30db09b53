"""Stories: a run writes its results into the file, unless the plan is recurring or a setting forbids it."""

from __future__ import annotations

import json
import os
import signal

from coordination import Coord
from coordination.ecosystem.document import load
from tests.acceptance.gate import Gate
from tests.testbed import PLAN, Testbed, git
from tests.waiting import until

TODOS = [
    {"id": "A", "repo": "api", "action": "echo A >> $LEDGER", "status": "completed"},
    {"id": "B", "repo": "web", "action": "echo B >> $LEDGER", "blocked_by": ["A"]},
]


def test_each_sweep_of_a_recurring_plan_runs_all_its_todos_in_order_and_leaves_the_file_as_it_is(
    testbed: Testbed,
):
    testbed.write(TODOS, plan={"recurring": True})
    testbed.up()
    before = testbed.file.read_bytes()

    for _ in range(2):
        assert testbed.sweep().states == {"A": "succeeded", "B": "succeeded"}
    with Coord(testbed.file) as coord:
        assert coord.runs.sweep(PLAN).wait().status == "succeeded"
    testbed.ok("run", "sync", "last")

    assert testbed.ledger == ["A", "B"] * 3
    assert testbed.file.read_bytes() == before


def test_a_retry_in_a_recurring_plan_does_what_failed_though_the_file_says_completed(testbed: Testbed):
    fails_once = 'test -e "$LEDGER.ok"'
    testbed.write([{**TODOS[0], "action": fails_once}, TODOS[1]], plan={"recurring": True})
    testbed.up()
    assert testbed.sweep().code == 3
    (testbed.folder / "ledger.ok").touch()

    assert testbed.coord("retry", "last", "--json").states == {"A": "succeeded", "B": "succeeded"}


def test_where_runs_write_nothing_back_only_sync_does(testbed: Testbed):
    testbed.settings = {"write_back": "none"}
    testbed.write([{"id": "A", "repo": "api"}])
    testbed.up()
    before = testbed.file.read_bytes()

    assert testbed.sweep().code == 0
    with Coord(testbed.file) as coord:
        coord.runs.get().wait()
    testbed.ok("down")  # a worker writes the outstanding results before it stops
    assert testbed.file.read_bytes() == before

    testbed.ok("run", "sync", "last")
    assert json.loads(testbed.ok("show-todo", "A", "--json").out)["status"] == "completed"


def status(testbed: Testbed, todo: str) -> str:
    return next(t for t in load(testbed.file).ecosystem.coordination.todos if t.id == todo).status


def test_a_worker_writes_the_results_of_a_sweep_whose_terminal_is_gone(testbed: Testbed) -> None:
    gate = Gate(testbed.folder)
    testbed.write(
        [{"id": "a", "repo": "api", "action": gate.action}, {"id": "b", "repo": "web", "action": "false"}]
    )
    sweep = testbed.begin("sweep", PLAN)
    gate.wait()
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.wait()

    gate.open()

    assert git(testbed.folder / "api", "status", "--porcelain") == ""
    until(lambda: status(testbed, "a") == "completed")
    assert status(testbed, "b") == "pending"
    run_id = testbed.run()["run_id"]
    (event,) = testbed.ok("history", "search", "a", "--kind", "todo.completed", "--json").json
    assert event["data"] == {"run": run_id}
    assert run_id in testbed.ok("history", "search", "a", "--wide").out
    assert testbed.ok("run", "sync", "last", "--json").json == {
        "run_id": run_id,
        "completed": [],
        "reopened": [],
    }
