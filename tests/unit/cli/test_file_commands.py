"""The file, checked and shown by its commands, in this process."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Typed

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


def test_init_writes_a_file_that_validates_and_never_over_another(typed: Typed, file: Path) -> None:
    file.unlink()
    for name in ("api", "web"):
        subprocess.run(["git", "init", "-q", "-b", "main", file.parent / name], check=True)

    written, checked, again = typed("init", str(file.parent)), typed("validate"), typed("init")

    assert (written.code, checked.code, again.code) == (0, 0, 2)
    assert "2 repositories" in written.err
    assert [repo["name"] for repo in typed("repo", "list", "--json").json] == ["api", "web"]
    assert "exists already" in again.err


def test_validate_names_every_problem_with_its_line_and_ends_with_2(typed: Typed, file: Path) -> None:
    file.write_text(FILE.replace("status: active", "status: activ").replace("estimated_hours: 2", "hours: 2"))

    answer, as_json = typed("validate"), typed("validate", "--json")

    assert answer.code == as_json.code == 2
    assert "ecosystem.yaml:6:" in answer.err
    assert "ecosystem.yaml:8:" in answer.err
    assert "did you mean" in answer.err
    assert as_json.json["valid"] is False
    assert sorted(problem["line"] for problem in as_json.json["problems"]) == [6, 8]


@pytest.mark.parametrize(
    ("form", "holds"), [("tree", "TODO-002"), ("mermaid", "flowchart"), ("dot", "digraph")]
)
def test_graph_draws_the_plan(typed: Typed, form: str, holds: str) -> None:
    assert holds in typed("plan", "graph", "PLAN-001", "--format", form).out


def test_graph_and_forecast_are_data_too(typed: Typed) -> None:
    drawn = typed("plan", "graph", "PLAN-001", "--format", "json").json
    foreseen = typed("plan", "forecast", "PLAN-001", "--json").json

    assert drawn["levels"] == [["TODO-001"], ["TODO-002"]]
    assert (foreseen["levels_h"], foreseen["dataflow_h"], foreseen["strategy"]) == (3, 3, "levels")
    assert "3 h" in typed("plan", "forecast", "PLAN-001").out


@pytest.mark.parametrize("second", ["pending", "completed"])
def test_graph_and_forecast_of_a_finished_plan_say_what_is_done_and_what_remains(
    typed: Typed, file: Path, second: str
) -> None:
    file.write_text(
        FILE.replace(
            "estimated_hours: 2", "status: completed, actual_hours: 1.5, estimated_hours: 2"
        ).replace("estimated_hours: 1", f"status: {second}, estimated_hours: 1")
    )

    for form in ("tree", "mermaid", "dot", "svg", "json"):
        drawn = typed("plan", "graph", "PLAN-001", "--format", form).out
        assert "TODO-001" in drawn, form
        assert ("completed" if form == "json" else "✓") in drawn, form
        assert "nothing to do: " not in drawn
    foreseen = typed("plan", "forecast", "PLAN-001")
    progress = typed("plan", "forecast", "PLAN-001", "--json").json["progress"]

    done = 2 if second == "completed" else 1
    assert f"done         {done} of 2 todos\ntook         1.5 h of work\n" in foreseen.out
    assert ("remains      nothing" if done == 2 else "remains      1 todo, 1 h of work") in foreseen.out
    assert (progress["completed"], progress["actual_hours"]) == (done, 1.5)


def test_the_file_is_found_by_option_then_environment_then_upward(
    typed: Typed, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep, elsewhere = file.parent / "a" / "b", file.parent / "elsewhere"
    deep.mkdir(parents=True)
    elsewhere.mkdir()
    other = elsewhere / "ecosystem.yaml"
    other.write_text("repos: [{name: other}]\n")
    monkeypatch.chdir(deep)

    assert "api" in typed("repo", "list").out
    monkeypatch.setenv("COORD_ECOSYSTEM", str(other))
    assert "other" in typed("repo", "list").out
    assert "api" in typed("--ecosystem", "../../ecosystem.yaml", "repo", "list").out
    assert "api" in typed("repo", "list", "--ecosystem", "../..").out


def test_the_schema_is_printed_or_written_with_the_line_for_editors(typed: Typed, file: Path) -> None:
    printed = typed("schema").json

    written = typed("schema", "--output", "eco.schema.json")

    assert printed == json.loads((file.parent / "eco.schema.json").read_text())
    assert "yaml-language-server: $schema=eco.schema.json" in written.err


def test_looking_at_the_file_starts_nothing_and_leaves_nothing(typed: Typed, file: Path) -> None:
    typed("list-todos")
    typed("plan", "forecast", "PLAN-001")

    assert [path.name for path in file.parent.iterdir()] == ["ecosystem.yaml"]


def test_up_with_a_configured_redis_says_where_workers_belong(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COORD_REDIS_URL", "redis://elsewhere:6379")

    answer = typed("up")

    assert answer.code == 2
    assert "coord worker" in answer.err


def test_down_where_nothing_runs_says_so(typed: Typed, file: Path) -> None:
    answer = typed("down")

    assert answer.code == 0
    assert "nothing was running" in answer.err
    assert not (file.parent / ".coord").exists()


def test_a_worker_without_repositories_is_refused(typed: Typed) -> None:
    assert typed("worker").code == 2
