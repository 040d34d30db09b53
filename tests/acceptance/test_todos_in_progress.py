"""Pages and views of todos and plans with what runs do: a todo that a run executes is in progress in each."""

from __future__ import annotations

import re

import pytest

from coordination import Coord
from coordination.backend.client import Profile, connect
from coordination.runs.store import RunStore
from tests.acceptance.gate import Gate
from tests.agent import agent_of
from tests.endpoints import listening, silent
from tests.engine import BAD, Engine
from tests.plans import ecosystem, graph, order
from tests.terminals import on_terminal
from tests.testbed import PLAN, Testbed
from tests.waiting import until


def test_a_running_todo_is_in_progress_in_every_view_with_its_run(testbed: Testbed) -> None:
    gate = Gate(testbed.folder)
    testbed.write(
        [
            {"id": "first", "repo": "api", "action": "true"},
            {"id": "runs", "repo": "api", "action": gate.action, "blocked_by": ["first"]},
            {"id": "later", "repo": "web", "action": "true", "blocked_by": ["runs"]},
            {"id": "free", "repo": "web", "plan": None, "action": "true"},
        ]
    )
    before = testbed.file.read_bytes()
    sweep = testbed.begin("sweep", PLAN)
    gate.wait()
    run_id = testbed.run()["run_id"]

    def in_progress() -> list[dict[str, str]]:
        found: list[dict[str, str]] = testbed.ok("list-todos", "--status", "in_progress", "--json").json
        return found

    listed = until(in_progress)
    assert [(todo["id"], todo["run_id"]) for todo in listed] == [("runs", run_id)]
    assert testbed.ok("list-todos", "--status", "completed", "--format", "{id} {run_id}").out.split() == [
        "first",
        run_id,
    ]
    assert testbed.ok("list-todos", "--status", "pending", "--format", "{id}").out.split() == [
        "free",
        "later",
    ]
    repo = testbed.ok("status", "api", "--json").json
    assert [(todo["id"], todo["run_id"]) for todo in repo["in_progress"]] == [("runs", run_id)]
    assert repo["ready"] == []
    whole = testbed.ok("ecosystem", "status", "--json").json
    assert whole["counts"]["todos"] == {"completed": 1, "in_progress": 1, "pending": 2}
    assert [todo["id"] for todo in whole["ready"]] == ["free"]
    assert [todo["id"] for todo in whole["in_progress"]] == ["runs"]
    shown = testbed.ok("show-todo", "runs", "--json").json
    assert (shown["status"], shown["run_id"], shown["run_state"]) == ("in_progress", run_id, "running")
    assert (shown["worker"], shown["since"]) == (shown["live"]["worker"], shown["live"]["since"])
    for words in (["list-todos"], ["status", "api"], ["ecosystem", "status"], ["export", "--format", "md"]):
        page = testbed.ok(*words).out
        assert run_id in page
        assert shown["worker"].partition("@")[0] in page
    exported = testbed.ok("export", "--format", "json", "--kind", "todos").json
    assert {todo["id"]: todo["status"] for todo in exported}["runs"] == "in_progress"

    with agent_of(testbed.file) as ai:
        (mine,) = (
            t for t in ai.call("coord_list_todos", status=["in_progress"])["result"] if t["id"] == "runs"
        )
        assert mine["run_id"] == run_id
        assert [t["id"] for t in ai.call("coord_get_ecosystem_status")["in_progress"]] == ["runs"]
        shown = ai.call("coord_get_repo_status", repo="api")
        assert [(todo["id"], todo["run_id"]) for todo in shown["in_progress"]] == [("runs", run_id)]
        assert ai.call("coord_get_todo", todo="runs")["status"] == "in_progress"
    with Coord(testbed.file) as coord:
        assert [todo.id for todo in coord.manager.list_todos(status="in_progress")] == ["runs"]
    assert testbed.file.read_bytes() == before  # nothing was written for it

    gate.open()
    assert sweep.done().code == 0
    assert testbed.ok("list-todos", "--status", "completed", "--format", "{id}").out.split() == [
        "first",
        "later",
        "runs",
    ]


def test_without_an_answer_of_redis_the_file_is_shown_and_it_is_said_where_it_matters(
    testbed: Testbed,
) -> None:
    testbed.write([{"id": "free", "repo": "api", "action": "true"}])
    nobody = {"COORD_REDIS_URL": "redis://127.0.0.1:1"}

    for words in (
        ["list-todos"],
        ["show-todo", "free"],
        ["status"],
        ["status", "api"],
        ["export", "--format", "md"],
    ):
        away, there = testbed.ok(*words, **nobody), testbed.ok(*words)
        assert away.out == there.out
        assert ("Redis gave no answer" in away.err, there.err) == (True, "")
    assert "Redis" not in testbed.ok("list-todos", "--status", "completed", **nobody).err
    known = [testbed.ok("ecosystem", "status", "--json", **env).json["runs_known"] for env in ({}, nobody)]
    assert known == [True, False]
    with listening(silent) as port:
        passed_over = testbed.ok("show-todo", "free", COORD_REDIS_URL=f"redis://127.0.0.1:{port}")
    assert "no answer" in passed_over.err
    assert "in a run" not in passed_over.out


def test_the_tree_has_colours_on_a_terminal_and_none_in_a_pipe(testbed: Testbed) -> None:
    testbed.write([{"id": "A", "repo": "api", "status": "completed"}, {"id": "B", "repo": "api"}])

    assert re.search("\x1b\\[32m.*✓ A", on_terminal(testbed, "plan", "graph", "PLAN-001", columns=200))
    assert "\x1b" not in testbed.ok("plan", "graph", "PLAN-001").out


def test_forecast_names_the_latest_run_of_a_finished_plan(testbed: Testbed) -> None:
    testbed.write([{"id": "A", "repo": "api"}])
    testbed.up()
    run = testbed.sweep().json["run_id"]

    answer = testbed.ok("plan", "forecast", "PLAN-001")

    assert re.search(rf"took .*last run \d+\.\d s \({run}, succeeded\)", answer.out)
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
        run = Engine(RunStore(client, "coord"))
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
