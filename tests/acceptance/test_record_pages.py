"""Pages of plans and todos: coloured on a terminal, with the latest run."""

from __future__ import annotations

import re

import pytest

from coordination.backend.client import Profile, connect
from coordination.runs.store import RunStore
from tests.contracts.run_harness import BAD, Harness
from tests.endpoints import listening, silent
from tests.plans import ecosystem, graph, order
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


@pytest.fixture
def declared(testbed: Testbed) -> Testbed:
    testbed.file.write_text(
        "repos: [{name: web}]\ncoordination:\n  todos: [{id: TODO-002, task: Use, repo: web}]\n"
    )
    return testbed


def test_a_todo_shows_what_a_run_does_with_it_and_nothing_is_started_for_that(declared: Testbed) -> None:
    quiet = declared.ok("show-todo", "TODO-002").out
    assert "in a run" not in quiet
    assert not declared.state.exists()

    todos = {"TODO-002": "web"}
    with connect(declared.server.start(), Profile.COMMAND) as client:
        run = Harness(RunStore(client, "coord"))
        run.submit(graph(todos), ecosystem(todos), order())
        grant = run.take("TODO-002")
        running, as_data = (
            declared.ok("show-todo", "TODO-002").out,
            declared.ok("show-todo", "TODO-002", "--json").json,
        )
        table, piped = on_terminal(declared, "list-todos"), declared.ok("list-todos").out
        run.settle(grant, BAD)
        failed = declared.ok("show-todo", "TODO-002").out

    assert re.search(rf"running for \d+ s, on w: run {run.run_id}, running\n", running)
    assert (as_data["live"]["state"], as_data["live"]["run_id"]) == ("running", run.run_id)
    assert "NOW" in table
    assert "NOW" in piped
    runs = declared.ok("list-runs", "--format", "{run_id} {status} {counts}").out
    assert runs == f'{run.run_id} failed {{"failed":1}}\n'
    assert re.search(r"failed \d+ s ago.*\n  exit code 1\n", failed)


def test_a_redis_that_does_not_answer_is_passed_over(declared: Testbed) -> None:
    with listening(silent) as port:
        answer = declared.ok("show-todo", "TODO-002", COORD_REDIS_URL=f"redis://127.0.0.1:{port}")

    assert "no answer" in answer.err
    assert "in a run" not in answer.out
