"""Pages of a plan for people: coloured on a terminal, with the plan's latest run."""

from __future__ import annotations

import re

from tests.terminals import on_terminal
from tests.testbed import Testbed


def test_the_tree_has_colours_on_a_terminal_and_none_in_a_pipe(testbed: Testbed) -> None:
    testbed.write([{"id": "A", "repo": "api", "status": "completed"}, {"id": "B", "repo": "api"}])

    assert re.search("\x1b\\[32m.*✓ A", on_terminal(testbed, "graph", "PLAN-001", columns=200))
    assert "\x1b" not in testbed.ok("graph", "PLAN-001").out


def test_forecast_names_the_latest_run_of_a_finished_plan(testbed: Testbed) -> None:
    testbed.write([{"id": "A", "repo": "api"}])
    testbed.up()
    run = testbed.sweep().json["run_id"]

    answer = testbed.ok("forecast", "PLAN-001")

    assert re.search(rf"took +last run \d+\.\d s \({run}, succeeded\)", answer.out)
    assert "remains      nothing" in answer.out
