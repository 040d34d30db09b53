"""The file: written, checked and looked at through the real command."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from tests.stage import Stage
from tests.terminals import on_terminal

FILE = """\
repos:
  - {name: api, path: api, role: service, tags: [core]}
  - {name: web, path: web}
coordination:
  plans:
    - {id: PLAN-001, title: Raise the floor, status: active, repos: [api, web]}
  todos:
    - {id: TODO-001, plan: PLAN-001, task: Lift it, repo: api, estimated_hours: 2, action: "true"}
    - {id: TODO-002, plan: PLAN-001, task: Use it, repo: web, estimated_hours: 1,
       blocked_by: [TODO-001], action: "true"}
    - {id: TODO-003, task: "[bold]Look[/bold]", repo: web, status: completed, action: [git, status]}
"""


@pytest.fixture
def declared(stage: Stage) -> Stage:
    stage.file.write_text(FILE)
    return stage


def asked(stage: Stage, *words: str) -> object:
    return stage.ok(*words, "--json").json


def ids(records: object) -> list[str]:
    assert isinstance(records, list)
    return [record.get("id") or record["name"] for record in records]


def test_init_writes_a_file_that_validates_and_never_over_another(stage: Stage) -> None:
    for name in ("api", "web"):
        subprocess.run(["git", "init", "-q", "-b", "main", stage.folder / name], check=True)

    written = stage.coord("init", stage.folder.name, cwd=stage.folder.parent)
    checked = stage.coord("validate")
    again = stage.coord("init")

    assert (written.code, checked.code, again.code) == (0, 0, 2)
    assert "2 repositories" in written.err
    assert ids(asked(stage, "list-repos")) == ["api", "web"]
    assert "exists already" in again.err


def test_validate_names_every_problem_with_its_line_and_ends_with_2(declared: Stage) -> None:
    declared.file.write_text(
        FILE.replace("status: active", "status: activ").replace("estimated_hours: 2", "hours: 2")
    )

    answer = declared.coord("validate")
    as_json = declared.coord("validate", "--json")

    assert answer.code == as_json.code == 2
    assert "ecosystem.yaml:6:" in answer.err
    assert "ecosystem.yaml:8:" in answer.err
    assert "did you mean" in answer.err
    found = as_json.json
    assert (found["valid"], sorted(problem["line"] for problem in found["problems"])) == (False, [6, 8])


@pytest.mark.parametrize(
    ("form", "holds"), [("tree", "TODO-002"), ("mermaid", "flowchart"), ("dot", "digraph")]
)
def test_graph_draws_the_plan(declared: Stage, form: str, holds: str) -> None:
    assert holds in declared.coord("graph", "PLAN-001", "--format", form).out


def test_graph_and_forecast_are_data_too(declared: Stage) -> None:
    drawn = declared.coord("graph", "PLAN-001", "--format", "json").json
    foreseen = asked(declared, "forecast", "PLAN-001")

    assert drawn["levels"] == [["TODO-001"], ["TODO-002"]]
    assert isinstance(foreseen, dict)
    assert (foreseen["levels_h"], foreseen["dataflow_h"], foreseen["strategy"]) == (3, 3, "levels")
    assert "3 h" in declared.coord("forecast", "PLAN-001").out


@pytest.mark.parametrize("second", ["pending", "completed"])
def test_graph_and_forecast_of_a_finished_plan_say_what_is_done_and_what_remains(
    declared: Stage, second: str
) -> None:
    declared.file.write_text(
        FILE.replace(
            "estimated_hours: 2", "status: completed, actual_hours: 1.5, estimated_hours: 2"
        ).replace("estimated_hours: 1", f"status: {second}, estimated_hours: 1")
    )

    for form in ("tree", "mermaid", "dot", "svg", "json"):
        drawn = declared.ok("graph", "PLAN-001", "--format", form).out
        assert "TODO-001" in drawn, form
        assert ("completed" if form == "json" else "✓") in drawn, form
        assert "nothing to do: " not in drawn
    foreseen = declared.ok("forecast", "PLAN-001")
    progress = declared.ok("forecast", "PLAN-001", "--json").json["progress"]

    done = 2 if second == "completed" else 1
    assert f"done         {done} of 2 todos\ntook         1.5 h of work\n" in foreseen.out
    assert ("remains      nothing" if done == 2 else "remains      1 todo, 1 h of work") in foreseen.out
    assert (progress["completed"], progress["actual_hours"]) == (done, 1.5)


def test_the_tree_has_colours_on_a_terminal_and_none_in_a_pipe(declared: Stage) -> None:
    declared.file.write_text(FILE.replace("estimated_hours: 2", "status: completed, estimated_hours: 2"))

    assert re.search("\x1b\\[32m.*✓ TODO-001", on_terminal(declared, "graph", "PLAN-001", columns=200))
    assert "\x1b" not in declared.ok("graph", "PLAN-001").out


def test_forecast_names_the_latest_run_of_a_finished_plan(stage: Stage) -> None:
    stage.write([{"id": "A", "repo": "api"}])
    stage.up()
    run = stage.sweep().json["run_id"]

    answer = stage.ok("forecast", "PLAN-001")

    assert re.search(rf"took +last run \d+\.\d s \({run}, succeeded\)", answer.out)
    assert "remains      nothing" in answer.out


def test_the_file_is_found_by_option_then_environment_then_upward(declared: Stage) -> None:
    deep, elsewhere = declared.folder / "a" / "b", declared.folder / "elsewhere"
    deep.mkdir(parents=True)
    elsewhere.mkdir()
    other = elsewhere / "ecosystem.yaml"
    other.write_text("repos: [{name: other}]\n")

    assert "api" in declared.coord("list-repos", cwd=deep).out
    assert "other" in declared.coord("list-repos", cwd=deep, COORD_ECOSYSTEM=str(other)).out
    for words in (
        ("--ecosystem", "../../ecosystem.yaml", "list-repos"),
        ("list-repos", "--ecosystem", "../.."),
    ):
        assert "api" in declared.coord(*words, cwd=deep, COORD_ECOSYSTEM=str(other)).out


def test_the_schema_is_printed_or_written_with_the_line_for_editors(stage: Stage) -> None:
    printed = stage.coord("schema").json

    written = stage.coord("schema", "--output", "eco.schema.json")

    assert printed == json.loads((stage.folder / "eco.schema.json").read_text())
    assert "yaml-language-server: $schema=eco.schema.json" in written.err


def test_looking_at_the_file_starts_nothing_and_leaves_nothing(declared: Stage) -> None:
    declared.coord("list-todos")
    declared.coord("forecast", "PLAN-001")

    assert [path.name for path in declared.folder.iterdir()] == ["ecosystem.yaml"]


def test_up_with_a_configured_redis_says_where_workers_belong(declared: Stage) -> None:
    answer = declared.coord("up", COORD_REDIS_URL="redis://elsewhere:6379")

    assert answer.code == 2
    assert "coord worker" in answer.err


def test_down_where_nothing_runs_says_so(declared: Stage) -> None:
    answer = declared.coord("down")

    assert answer.code == 0
    assert "nothing was running" in answer.err
    assert not declared.state.exists()


def test_a_worker_without_repositories_is_refused(declared: Stage) -> None:
    assert declared.coord("worker").code == 2
