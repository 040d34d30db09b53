"""The file as people see it on a terminal, and what a run does with a todo at present."""

from __future__ import annotations

import re

import click
import pytest

from coordination.backend.client import Profile, connect
from coordination.runs.store import RunStore
from tests.contracts.run_harness import BAD, Harness
from tests.doors import listening, silent
from tests.plans import ecosystem, graph, order
from tests.terminals import on_terminal
from tests.testbed import Testbed

FILE = """\
repos: [{name: web, path: web}]
coordination:
  issues: [{id: ISSUE-001, title: Python 3.9 is past its end of life, priority: critical, target: 2020-10-01}]
  todos:
    - id: TODO-002
      task: Use it wherever it has been waited for during all of these years
      repo: web
      status: blocked
      blocked_by: [ISSUE-001]
      action: make check
"""


@pytest.fixture
def declared(testbed: Testbed) -> Testbed:
    testbed.file.write_text(FILE)
    return testbed


def test_a_terminal_is_not_overflowed_and_shows_states_in_colour(declared: Testbed) -> None:
    table = on_terminal(declared, "list-todos", columns=50)
    page = on_terminal(declared, "show-todo", "TODO-002", columns=50)

    assert "\x1b[31mblocked\x1b[0m" in table
    assert max(len(line) for line in click.unstyle(table + page).splitlines()) <= 50
    assert "…" in table


def test_a_terminal_is_told_once_what_was_created(declared: Testbed) -> None:
    (line,) = on_terminal(declared, "create-issue", "--title", "Once").splitlines()

    assert line.startswith("created ISSUE-")


def test_no_color_is_obeyed(declared: Testbed) -> None:
    coloured = on_terminal(declared, "show-todo", "TODO-002")
    without = on_terminal(declared, "show-todo", "TODO-002", NO_COLOR="1")

    assert "\x1b" in coloured
    assert "\x1b" not in without
    assert click.unstyle(coloured) == without


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
