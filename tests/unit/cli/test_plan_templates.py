"""Templates of plans: their parameters are checked, and never become a part of a command."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from coordination.ecosystem.document import load
from coordination.models import AgentAction, ShellAction, Todo, argv_of
from tests.unit.cli.conftest import Typed

FILE = """\
repos:
  - {name: lib, tags: [py]}
  - {name: app, tags: [py]}
coordination:
  dependencies:
    - {id: DEP-1, consumer: app, provider: lib}
  templates:
    - name: bump
      parameters:
        - {name: to}
        - {name: jobs, type: number, default: 2}
        - {name: loud, type: flag, required: false}
        - {name: level, choices: [minor, major], default: minor}
      plan: {title: "Bump to ${to}", description: "costs $${to}"}
      steps:
        - id: change
          task: "Bump ${repo} to ${to}, ${level}"
          env: {WHERE: "${plan}/${repo}"}
          action: 'printf "%s|%s|%s" "${to}" "$jobs" "$loud" > OUT'
        - id: ask
          task: ask
          action: {type: agent, prompt: "Is ${to} right in ${repo}?"}
"""
EVIL = '1\'; touch PWNED; "$(touch PWNED)" `touch PWNED` ${level} \\ & | \n x'


def create(typed: Typed, *words: str):
    return typed("plan", "create", "--from-template", "bump", *words)


def todos(file: Path) -> dict[str, Todo]:
    return {todo.id: todo for todo in load(file).ecosystem.coordination.todos}


def test_a_value_is_text_in_texts_and_a_variable_in_commands(typed: Typed, file: Path, tmp_path: Path):
    made = create(typed, "--set", f"to={EVIL}", "--all", "--json")
    assert made.code == 0, made.err
    found = todos(file)
    assert list(found) == [f"PLAN-001-{step}-{repo}" for repo in ("lib", "app") for step in ("change", "ask")]
    change, ask = found["PLAN-001-change-lib"], found["PLAN-001-ask-lib"]
    assert change.task == f"Bump lib to {EVIL}, minor", "what a value contains is not replaced again"
    assert isinstance(ask.action, AgentAction)
    assert ask.action.prompt == f"Is {EVIL} right in lib?"
    assert change.env == {"to": EVIL, "jobs": "2", "loud": "false", "WHERE": "PLAN-001/lib"}
    assert load(file).ecosystem.coordination.plans[0].description == "costs ${to}"

    assert isinstance(change.action, ShellAction)
    assert EVIL not in change.action.run
    subprocess.run(
        argv_of(change.action.run), env={"PATH": "/usr/bin:/bin", **change.env}, cwd=tmp_path, check=True
    )
    assert (tmp_path / "OUT").read_text() == f"{EVIL}|2|false"
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "to is missing: --set to=…"),
        (("--set", "to"), "--set PARAMETER=VALUE"),
        (("--set", "to=1", "--set", "job=3"), "did you mean 'jobs'"),
        (("--set", "to=1", "--set", "jobs=many"), "jobs needs a number"),
        (("--set", "to=1", "--set", "loud=yes"), "true or false"),
        (("--set", "to=1", "--set", "level=huge"), "one of minor, major"),
    ],
)
def test_wrong_values_are_refused_and_nothing_is_written(
    typed: Typed, file: Path, words: tuple[str, ...], said: str
):
    before = file.read_bytes()
    done = create(typed, *words, "--all")
    assert (done.code, said in done.err, file.read_bytes()) == (2, True, before)


def test_options_of_templates_need_one_and_a_plan_without_one_is_made_as_before(typed: Typed, file: Path):
    assert typed("plan", "create", "--title", "x", "--set", "a=b").code == 2
    assert typed("plan", "create", "--from-template", "bmp", "--all").code == 2
    assert typed("plan", "create", "--title", "by hand", "--repos", "lib").code == 0
    preview = create(typed, "--set", "to=3", "--repos", "app", "--title", "Mine", "--dry-run", "--json").json
    assert (preview["plan"]["id"], preview["plan"]["title"], preview["written"]) == (
        "PLAN-002",
        "Mine",
        False,
    )
    assert [todo["repo"] for todo in preview["todos"]] == ["app", "app"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Bump ${repo} to", "Bump ${repos} to", "no parameter"),
        ("{name: to}", "{name: PATH}", "name"),
        ("{name: to}", "{name: repo}", "every template has"),
        ("default: 2", "default: two", "needs a number"),
        ("env: {WHERE", "env: {to", "which is a parameter"),
        ("action: 'printf", "action: [sh, -c, '${to}'] #", "write the command as one text"),
        ("- id: ask", "- id: change", "twice"),
        ("plan: {title", "plan: {titel", "title"),
    ],
)
def test_a_template_that_cannot_work_is_found_by_validate(
    typed: Typed, file: Path, old: str, new: str, said: str
):
    assert typed("validate").code == 0
    file.write_text(FILE.replace(old, new, 1))
    done = typed("validate")
    assert (done.code, said in done.out + done.err) == (2, True), done.out + done.err


def test_shipped_templates_make_plans_that_can_be_swept(typed: Typed, file: Path, tmp_path: Path):
    names = [one["name"] for one in typed("template", "list", "--json").json]
    assert names == ["bump", "review", "security-sweep", "upgrade-dependency"]
    for name, values in (
        ("review", ["question=is it safe?"]),
        ("security-sweep", []),
        ("upgrade-dependency", ["package=Requests", "version=2.32.0; touch PWNED"]),
    ):
        assert typed("template", "show", name).code == 0
        sets = [word for value in values for word in ("--set", value)]
        made = typed("plan", "create", "--from-template", name, "--all", "--json", *sets)
        assert made.code == 0, made.err
        assert typed("plan", "graph", made.json["plan"]["id"]).code == 0
    upgrade = todos(file)["PLAN-003-change-lib"]
    assert isinstance(upgrade.action, ShellAction)
    (tmp_path / "requirements.txt").write_text("urllib3==1.0\nrequests[socks]>=2 # why\n")
    env = {"PATH": "/usr/bin:/bin", **{name: str(value) for name, value in upgrade.env.items()}}
    subprocess.run(argv_of(upgrade.action.run), env=env, cwd=tmp_path, check=True)
    assert (tmp_path / "requirements.txt").read_text() == "urllib3==1.0\nrequests==2.32.0; touch PWNED\n"
    assert not (tmp_path / "PWNED").exists()
