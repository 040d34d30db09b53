"""A run writes back nothing for a recurring plan, whose todos run in every sweep, and nothing if the settings
forbid it.
"""

from __future__ import annotations

import json

from coordination import Coord
from tests.stage import PLAN, Stage

TODOS = [
    {"id": "A", "repo": "api", "action": "echo A >> $LEDGER", "status": "completed"},
    {"id": "B", "repo": "web", "action": "echo B >> $LEDGER", "blocked_by": ["A"]},
]


def test_each_sweep_of_a_recurring_plan_runs_all_its_todos_in_order_and_leaves_the_file_as_it_is(
    stage: Stage,
):
    stage.write(TODOS, plan={"recurring": True})
    stage.up()
    before = stage.file.read_bytes()

    for _ in range(2):
        assert stage.sweep().states == {"A": "succeeded", "B": "succeeded"}
    with Coord(stage.file) as coord:
        assert coord.runs.sweep(PLAN).wait().status == "succeeded"
    stage.ok("sync", "last")

    assert stage.ledger == ["A", "B"] * 3
    assert stage.file.read_bytes() == before


def test_a_retry_in_a_recurring_plan_does_what_failed_though_the_file_says_completed(stage: Stage):
    fails_once = 'test -e "$LEDGER.ok"'
    stage.write([{**TODOS[0], "action": fails_once}, TODOS[1]], plan={"recurring": True})
    stage.up()
    assert stage.sweep().code == 3
    (stage.folder / "ledger.ok").touch()

    assert stage.coord("retry", "last", "--json").states == {"A": "succeeded", "B": "succeeded"}


def test_where_runs_write_nothing_back_only_sync_does(stage: Stage):
    stage.settings = {"write_back": "none"}
    stage.write([{"id": "A", "repo": "api"}])
    stage.up()
    before = stage.file.read_bytes()

    assert stage.sweep().code == 0
    with Coord(stage.file) as coord:
        coord.runs.get().wait()
    stage.ok("down")  # a worker writes the outstanding results before it stops
    assert stage.file.read_bytes() == before

    stage.ok("sync", "last")
    assert json.loads(stage.ok("show-todo", "A", "--json").out)["status"] == "completed"
