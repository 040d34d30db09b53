"""The file: written, checked and looked at through the real command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COORD = Path(sys.executable).with_name("coord")
FILE = """\
repos:
  - {name: api, path: api, role: service, tags: [core]}
  - {name: web, path: web}
coordination:
  plans:
    - {id: PLAN-001, title: Raise the floor, status: active, repos: [api, web]}
  todos:
    - {id: TODO-001, plan: PLAN-001, task: Lift it, repo: api, estimated_hours: 2, action: "true"}
    - {id: TODO-002, plan: PLAN-001, task: Use it, repo: web, estimated_hours: 1, blocked_by: [TODO-001], action: "true"}
    - {id: TODO-003, task: "[bold]Look[/bold]", repo: web, status: completed, action: [git, status]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ecosystem.yaml").write_text(FILE)
    return tmp_path


def coord(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COORD_")}
    return subprocess.run(
        [COORD, *words], cwd=folder, env=plain | environment, capture_output=True, text=True, timeout=60
    )


def asked(folder: Path, *words: str) -> object:
    answer = coord(folder, *words, "--json")
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def ids(records: object) -> list[str]:
    assert isinstance(records, list)
    return [record.get("id") or record["name"] for record in records]


def test_init_writes_a_file_that_validates_and_never_over_another(tmp_path: Path) -> None:
    for name in ("api", "web"):
        subprocess.run(["git", "init", "-q", "-b", "main", tmp_path / name], check=True)

    written = coord(tmp_path.parent, "init", tmp_path.name)
    checked = coord(tmp_path, "validate")
    again = coord(tmp_path, "init")

    assert (written.returncode, checked.returncode, again.returncode) == (0, 0, 2)
    assert "2 repositories" in written.stderr
    assert ids(asked(tmp_path, "list-repos")) == ["api", "web"]
    assert "exists already" in again.stderr


def test_validate_names_every_problem_with_its_line_and_ends_with_2(folder: Path) -> None:
    (folder / "ecosystem.yaml").write_text(
        FILE.replace("status: active", "status: activ").replace("estimated_hours: 2", "hours: 2")
    )

    answer = coord(folder, "validate")
    as_json = coord(folder, "validate", "--json")

    assert answer.returncode == as_json.returncode == 2
    assert "ecosystem.yaml:6:" in answer.stderr
    assert "ecosystem.yaml:8:" in answer.stderr
    assert "did you mean" in answer.stderr
    found = json.loads(as_json.stdout)
    assert (found["valid"], sorted(problem["line"] for problem in found["problems"])) == (False, [6, 8])


def test_validate_passes_what_is_only_loose_with_a_warning(folder: Path) -> None:
    (folder / "ecosystem.yaml").write_text(FILE.replace("[TODO-001]", "[TODO-999]"))

    answer = coord(folder, "validate")

    assert answer.returncode == 0
    assert "warning" in answer.stderr
    assert "TODO-999" in answer.stderr


def test_lists_are_arrays_and_filters_add_up(folder: Path) -> None:
    assert ids(asked(folder, "list-repos")) == ["api", "web"]
    assert ids(asked(folder, "list-repos", "--tag", "core")) == ["api"]
    assert ids(asked(folder, "list-plans", "--status", "active")) == ["PLAN-001"]
    assert ids(asked(folder, "list-todos")) == ["TODO-001", "TODO-002", "TODO-003"]
    assert ids(asked(folder, "list-todos", "--repo", "web", "--status", "pending")) == ["TODO-002"]
    assert ids(asked(folder, "list-todos", "--plan", "PLAN-001")) == ["TODO-001", "TODO-002"]


def test_shows_are_objects(folder: Path) -> None:
    todo, plan = asked(folder, "show-todo", "TODO-002"), asked(folder, "show-plan", "PLAN-001")

    assert isinstance(todo, dict)
    assert todo["blocked_by"] == ["TODO-001"]
    assert isinstance(plan, dict)
    assert ids(plan["todos"]) == ["TODO-001", "TODO-002"]


def test_tables_show_text_as_it_stands_in_the_file(folder: Path) -> None:
    assert "[bold]Look[/bold]" in coord(folder, "list-todos").stdout
    assert "Raise the floor" in coord(folder, "list-plans").stdout
    assert "TODO-002" in coord(folder, "show-plan", "PLAN-001").stdout
    assert "TODO-001" in coord(folder, "show-todo", "TODO-002").stdout


def test_a_name_that_is_not_there_is_refused_with_the_nearest(folder: Path) -> None:
    answer = coord(folder, "show-plan", "PLAN-002")

    assert answer.returncode == 2
    assert "PLAN-001" in answer.stderr
    assert answer.stdout == ""


@pytest.mark.parametrize(("form", "holds"), [("tree", "TODO-002"), ("mermaid", "flowchart"), ("dot", "digraph")])
def test_graph_draws_the_plan(folder: Path, form: str, holds: str) -> None:
    assert holds in coord(folder, "graph", "PLAN-001", "--format", form).stdout


def test_graph_and_forecast_are_data_too(folder: Path) -> None:
    drawn = json.loads(coord(folder, "graph", "PLAN-001", "--format", "json").stdout)
    foreseen = asked(folder, "forecast", "PLAN-001")

    assert drawn["levels"] == [["TODO-001"], ["TODO-002"]]
    assert isinstance(foreseen, dict)
    assert (foreseen["levels_h"], foreseen["dataflow_h"], foreseen["strategy"]) == (3, 3, "levels")
    assert "3 h" in coord(folder, "forecast", "PLAN-001").stdout


def test_a_cycle_is_refused_with_its_path(folder: Path) -> None:
    (folder / "ecosystem.yaml").write_text(FILE.replace("estimated_hours: 2", "blocked_by: [TODO-002]"))

    answer = coord(folder, "graph", "PLAN-001")

    assert answer.returncode == 2
    assert "TODO-001 → TODO-002 → TODO-001" in answer.stderr


def test_the_file_is_found_by_option_then_environment_then_upward(folder: Path, tmp_path: Path) -> None:
    deep, elsewhere = folder / "a" / "b", tmp_path / "elsewhere"
    deep.mkdir(parents=True)
    elsewhere.mkdir()
    other = elsewhere / "ecosystem.yaml"
    other.write_text("repos: [{name: other}]\n")

    assert "api" in coord(deep, "list-repos").stdout
    assert "other" in coord(deep, "list-repos", COORD_ECOSYSTEM=str(other)).stdout
    for words in (("--ecosystem", "../../ecosystem.yaml", "list-repos"), ("list-repos", "--ecosystem", "../..")):
        assert "api" in coord(deep, *words, COORD_ECOSYSTEM=str(other)).stdout


def test_no_file_says_how_to_get_one(tmp_path: Path) -> None:
    answer = coord(tmp_path, "list-plans")

    assert answer.returncode == 2
    assert "coord init" in answer.stderr


def test_the_schema_is_printed_or_written_with_the_line_for_editors(tmp_path: Path) -> None:
    printed = json.loads(coord(tmp_path, "schema").stdout)

    written = coord(tmp_path, "schema", "--output", "eco.schema.json")

    assert printed == json.loads((tmp_path / "eco.schema.json").read_text())
    assert "yaml-language-server: $schema=eco.schema.json" in written.stderr


def test_looking_at_the_file_starts_nothing_and_leaves_nothing(folder: Path) -> None:
    coord(folder, "list-todos")
    coord(folder, "forecast", "PLAN-001")

    assert [path.name for path in folder.iterdir()] == ["ecosystem.yaml"]


def test_up_with_a_configured_redis_says_where_workers_belong(folder: Path) -> None:
    answer = coord(folder, "up", COORD_REDIS_URL="redis://elsewhere:6379")

    assert answer.returncode == 2
    assert "coord worker" in answer.stderr


def test_down_where_nothing_runs_says_so(folder: Path) -> None:
    answer = coord(folder, "down")

    assert answer.returncode == 0
    assert "nothing was running" in answer.stderr
    assert not (folder / ".coord").exists()


def test_a_worker_without_repositories_is_refused(folder: Path) -> None:
    assert coord(folder, "worker").returncode == 2
