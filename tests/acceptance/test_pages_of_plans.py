"""Pages of a plan for people: coloured on a terminal, with the plan's latest run."""

from __future__ import annotations

import re

from tests.stage import Stage
from tests.terminals import on_terminal


def test_the_tree_has_colours_on_a_terminal_and_none_in_a_pipe(stage: Stage) -> None:
    stage.write([{"id": "A", "repo": "api", "status": "completed"}, {"id": "B", "repo": "api"}])

    assert re.search("\x1b\\[32m.*✓ A", on_terminal(stage, "graph", "PLAN-001", columns=200))
    assert "\x1b" not in stage.ok("graph", "PLAN-001").out


def test_forecast_names_the_latest_run_of_a_finished_plan(stage: Stage) -> None:
    stage.write([{"id": "A", "repo": "api"}])
    stage.up()
    run = stage.sweep().json["run_id"]

    answer = stage.ok("forecast", "PLAN-001")

    assert re.search(rf"took +last run \d+\.\d s \({run}, succeeded\)", answer.out)
    assert "remains      nothing" in answer.out
