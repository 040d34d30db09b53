"""A run writes back nothing for a recurring plan, whose todos run in every sweep, and nothing if the settings
forbid it.
"""

from __future__ import annotations

import json

from coordination import Coord
from tests.testbed import PLAN, Testbed

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
    testbed.ok("sync", "last")

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

    testbed.ok("sync", "last")
    assert json.loads(testbed.ok("show-todo", "A", "--json").out)["status"] == "completed"
