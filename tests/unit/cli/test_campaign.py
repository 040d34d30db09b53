"""A campaign makes a plan, and a change and a check for each repository, in the order of the dependencies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordination.ecosystem.document import load
from coordination.models import QaAction
from tests.testbed import Done
from tests.unit.cli.conftest import Typed

FILE = """\
repos:
  - {name: app, tags: [python], role: service}
  - {name: mid, tags: [js]}
  - {name: lib, tags: [python]}
  - {name: odd, tags: [python]}
coordination:
  dependencies:
    - {id: DEP-1, consumer: app, provider: mid}
    - {id: DEP-2, consumer: mid, provider: lib}
    - {id: DEP-3, consumer: odd, provider: odd}
"""
TITLE = "Raise the minimum Python"
HOSTILE = '\x1b[31m\'; rm -rf "$HOME" ${repo} $(id)\n- {a: b} # \u202e é'


def campaign(typed: Typed, *words: str) -> Done:
    return typed("campaign", TITLE, "--run", "./migrate.sh", *words)


def waits(done: Done) -> dict[str, list[str]]:
    return {todo["id"]: list(todo["blocked_by"]) for todo in done.json["todos"]}


def test_a_change_waits_for_the_checks_of_its_providers_also_through_others(typed: Typed, file: Path):
    before = file.read_bytes()
    preview = campaign(typed, "--check", "pytest -q", "--tag", "python", "--json", "--dry-run")
    assert waits(preview) == {
        "PLAN-001-change-lib": [],
        "PLAN-001-check-lib": ["PLAN-001-change-lib"],
        "PLAN-001-change-app": ["PLAN-001-check-lib"],
        "PLAN-001-check-app": ["PLAN-001-change-app"],
        "PLAN-001-change-odd": [],
        "PLAN-001-check-odd": ["PLAN-001-change-odd"],
    }
    assert (preview.json["written"], file.read_bytes()) == (False, before)

    made = campaign(typed, "--check", "pytest -q", "--tag", "python", "--json")
    assert made.json == {**preview.json, "written": True}
    plan = load(file).ecosystem.coordination.plans[0]
    assert (plan.title, plan.repos) == (TITLE, ("app", "lib", "odd"))
    actions = {todo.id: todo.action for todo in load(file).ecosystem.coordination.todos}
    assert getattr(actions["PLAN-001-check-app"], "read_only", False), "a check changes nothing"
    assert typed("plan", "graph", "PLAN-001").code == 0, "it can be swept"


OWN = """\
repos:
  - {name: lib, qa: make test}
  - {name: mid}
  - name: app
    qa: [{name: slow, run: make e2e, kind: e2e}, {name: unit, run: make test}, {name: lint, run: make lint}]
coordination:
  dependencies: [{id: D1, consumer: mid, provider: lib}, {id: D2, consumer: app, provider: mid}]
"""


def test_without_a_check_each_repository_runs_its_own_ones(typed: Typed, file: Path):
    file.write_text(OWN)

    done = campaign(typed, "--all", "--json")

    name = "PLAN-001"
    assert waits(done) == {
        f"{name}-change-lib": [],
        f"{name}-check-lib": [f"{name}-change-lib"],
        f"{name}-change-mid": [f"{name}-check-lib"],
        f"{name}-change-app": [f"{name}-change-mid"],
        f"{name}-check-unit-app": [f"{name}-change-app"],
        f"{name}-check-lint-app": [f"{name}-change-app"],
        f"{name}-check-slow-app": [f"{name}-check-unit-app", f"{name}-check-lint-app"],
    }
    assert (done.json["unchecked"], "declares no check: mid" in done.err) == (["mid"], True)
    actions = [todo.action for todo in load(file).ecosystem.coordination.todos]
    assert [a.check for a in actions if isinstance(a, QaAction)] == [None, "unit", "lint", "slow"]
    graph = typed("plan", "graph", name)
    assert graph.code == 0, "it can be swept"
    other = typed("campaign", "Other", "--run", "x", "--check", "y", "--repo", "mid", "--json")
    assert other.json["unchecked"] == []


def test_selectors_of_one_kind_widen_and_of_two_kinds_narrow(typed: Typed, file: Path):
    def chosen(*words: str) -> list[str]:
        return sorted(campaign(typed, "--dry-run", "--json", *words).json["plan"]["repos"])

    assert chosen("--repo", "app", "--repo", "mid") == ["app", "mid"]
    assert chosen("--tag", "python", "--role", "service") == ["app"]
    assert chosen("--all") == ["app", "lib", "mid", "odd"]
    waiting = campaign(typed, "--dry-run", "--json", "--all", "--order", "none")
    assert set(map(tuple, waits(waiting).values())) == {()}


def test_a_title_with_hostile_characters_is_only_text(typed: Typed, file: Path):
    made = typed("campaign", HOSTILE, "--run", 'echo "${title}" $HOME', "--repo", "app", "--json")
    assert made.code == 0, made.err
    todo = load(file).ecosystem.coordination.todos[0]
    assert (todo.id, todo.task) == ("PLAN-001-change-app", HOSTILE)
    assert todo.action is not None
    assert todo.action.model_dump()["run"] == 'echo "${title}" $HOME'
    assert todo.env == {"title": HOSTILE}
    for words in (("list-plans",), ("plan", "show", "PLAN-001"), ("list-todos",)):
        shown = typed(*words)
        assert shown.code == 0
        assert "\x1b[31m" not in shown.out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--run", "x", "--tag", "js", "--role", "service"), 2, "no repository matches --tag js --role"),
        (("--run", "x", "--tag", "pyhton"), 2, "did you mean 'python'"),
        (("--run", "x", "--repo", "nope"), 2, "coord repo list"),
        (("--run", "x"), 2, "add --repo REPO, --tag TAG, --role ROLE or --all"),
        (("--run", "x", "--all", "--repo", "app"), 2, "add --repo"),
        (("--all",), 2, "--run COMMAND"),
        (("--run", "x", "--prompt", "y", "--all"), 2, "--run COMMAND"),
        (("--run", "", "--all"), 2, "must not be empty"),
        (("--run", "x", "--check", "a\udcff", "--all"), 2, "not UTF-8"),
    ],
)
def test_bad_input_writes_nothing(typed: Typed, file: Path, words: tuple[str, ...], code: int, said: str):
    before = file.read_bytes()
    done = typed("campaign", TITLE, *words)
    assert (done.code, file.read_bytes()) == (code, before)
    assert said in done.err


def test_repositories_in_a_circle_need_another_order(typed: Typed, file: Path):
    file.write_text(FILE + "    - {id: DEP-4, consumer: lib, provider: app}\n")
    refused = campaign(typed, "--all")
    assert (refused.code, "--order none" in refused.err) == (2, True)
    assert campaign(typed, "--all", "--order", "none").code == 0


def test_the_same_title_twice_is_refused_while_the_first_plan_is_open(typed: Typed, file: Path):
    assert campaign(typed, "--all").code == 0
    before = file.read_bytes()
    again = campaign(typed, "--repo", "app")
    assert (again.code, file.read_bytes()) == (6, before)
    assert "coord sweep PLAN-001" in again.err
    assert typed("plan", "update", "PLAN-001", "--status", "cancelled").code == 0
    assert json.loads(campaign(typed, "--repo", "app", "--json").out)["plan"]["id"] == "PLAN-002"


def test_a_long_name_of_a_repository_gives_an_id_that_fits(typed: Typed, file: Path):
    long = "r" * 100
    file.write_text(f"repos:\n  - {{name: {long}}}\n  - {{name: {long[:-1]}s}}\n")
    made = campaign(typed, "--all", "--json")
    assert made.code == 0, made.err
    assert len({todo["id"] for todo in made.json["todos"]}) == 2
