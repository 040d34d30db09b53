"""Pages, overviews and exports, as the commands print them into a pipe."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.testbed import Done
from tests.unit.cli.conftest import Typed

PLAN = "PLAN-001"
FILE = """\
repos:
  - {name: api, path: api, role: service}
  - {name: web, path: web}
coordination:
  issues:
    - id: ISSUE-001
      title: Python 3.9 is past its end of life
      status: in_progress
      priority: critical
      repos: [api, web]
      target: 2020-10-01
      description: |
        The floor gets no fixes any more.

        * api first
    - {id: ISSUE-002, title: Docs are old, status: closed, repos: [web]}
  plans:
    - id: PLAN-001
      title: Raise the floor
      status: active
      repos: [api, web]
      milestones:
        - {id: M1, name: api raised, due: 2020-11-01, completion_criteria: [tests pass],
           dependencies: [TODO-001]}
        - {id: M2, name: all raised, dependencies: [M1]}
  todos:
    - {id: TODO-001, plan: PLAN-001, task: Lift it, repo: api, status: completed, action: "true"}
    - id: TODO-002
      plan: PLAN-001
      task: Use it wherever it has been waited for during all of these years
      repo: web
      status: blocked
      blocked_by: [TODO-001, ISSUE-001, GONE]
      acceptance_criteria: [docs say so]
      action: make check
    - {id: TODO-003, plan: PLAN-001, task: "[bold]Tell[/bold]", repo: web, blocked_by: [TODO-002]}
  dependencies:
    - {id: DEP-001, consumer: web, provider: api, version_constraint: ">=2,<3", status: unsatisfied,
       validation: {command: "api --version", expected_pattern: "2"}}
"""


@pytest.fixture
def ok(typed: Typed) -> Typed:
    def call(*words: str) -> Done:
        done = typed(*words)
        assert done.code == 0, done.err
        return done

    return call


def words(text: str) -> list[list[str]]:
    """Each line's cells."""
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if line.strip()]


def test_a_todo_names_what_it_waits_for_with_what_stands_behind_and_what_it_holds_up(ok: Typed) -> None:
    page = ok("show-todo", "TODO-003").out

    assert words(page)[:2] == [["TODO-003", "[bold]Tell[/bold]"], ["pending · medium"]]
    after = words(page.partition("waits for\n")[2])
    assert after[0][:2] == ["TODO-002", "blocked"]
    assert after[1][:2] == ["ISSUE-001", "in_progress"]
    assert after[2][:2] == ["GONE", "not declared"]
    assert "is done when\n  · docs say so" in ok("show-todo", "TODO-002").out


def test_the_lines_of_a_script_and_of_a_text_stay_lines(ok: Typed) -> None:
    ok("todo", "update", "TODO-001", "--run", "set -e\nfor x in 1 2; do\n\techo $x\ndone\n")
    ok("todo", "update", "TODO-001", "--description", "As follows:\n\n* one\n  * below it\n")

    page = ok("show-todo", "TODO-001").out

    assert re.search(r"^action +set -e\n +for x in 1 2; do\n +    echo \$x\n +done$", page, re.MULTILINE)
    assert "As follows:\n\n* one\n  * below it\n" in page


def test_the_same_as_data(ok: Typed) -> None:
    todo = ok("show-todo", "TODO-002", "--json").json
    plan = ok("plan", "show", PLAN, "--json").json

    assert [(link["id"], link["holds"]) for link in todo["waits_for"]] == [
        ("TODO-001", False), ("ISSUE-001", True), ("GONE", True),
    ]  # fmt: skip
    assert [link["id"] for link in todo["holds_up"]] == ["TODO-003"]
    assert todo["live"] is None
    assert [record["id"] for record in plan["todos"]] == ["TODO-001", "TODO-002", "TODO-003"]


def test_an_issue_shows_its_text_as_it_was_written_and_what_it_holds_up_to_the_end(ok: Typed) -> None:
    page = ok("show-issue", "ISSUE-001").out

    assert "The floor gets no fixes any more.\n\n* api first\n" in page
    assert "2020-10-01 (overdue)" in page
    assert [row[0] for row in words(page.partition("blocks\n")[2])] == ["TODO-002", "TODO-003"]


def test_a_plan_shows_its_milestones_and_how_far_it_is(ok: Typed) -> None:
    page = ok("plan", "show", PLAN).out

    assert "active · 1/3 todos done" in page
    assert "M1  api raised  pending · due 2020-11-01 (overdue)\n    ? tests pass" in page
    assert "waits for M1 (pending) api raised" in page
    assert "\nTODO-002  blocked " in page


def test_what_is_done_holds_nothing_up_any_more(ok: Typed) -> None:
    page = ok("show-todo", "TODO-001").out

    assert "blocks" not in page
    assert "TODO-002" in page.partition("was needed by\n")[2]


def test_a_dependency_shows_how_it_is_checked(ok: Typed) -> None:
    page = ok("dep", "show", "DEP-001").out

    assert "web needs api >=2,<3\nunsatisfied · runtime\n" in page
    assert ["command", "api --version"] in words(page)


def test_a_dependency_without_a_command_says_by_what_it_is_checked(ok: Typed) -> None:
    ok("dep", "create", "--consumer", "api", "--provider", "web", "--constraint", ">=1")
    ok("dep", "create", "--consumer", "api", "--provider", "web")

    assert ["checked", "by the version in web's checkout"] in words(ok("dep", "show", "DEP-002").out)
    assert "none: no constraint, command or address" in ok("dep", "show", "DEP-003").out


def test_repositories_show_whether_they_are_there_and_how_much_is_open(ok: Typed, file: Path) -> None:
    (file.parent / "api").mkdir()

    assert words(ok("repo", "list").out) == [
        ["REPO", "ROLE", "BRANCH", "ISSUES", "TODOS", "PATH"],
        ["api", "service", "main", "1", "api"],
        ["web", "main", "1", "2", "web (not there)"],
    ]


def test_where_a_repository_stands(ok: Typed) -> None:
    page, data = ok("status", "web").out, ok("status", "web", "--json").json

    assert "TODO-002  medium  waits for ISSUE-001, GONE" in page
    assert ["DEP-001", "unsatisfied", "api", ">=2,<3", "runtime"] in words(page)
    assert data["counts"]["todos"] == {"blocked": 1, "pending": 1}


def test_what_holds_a_repository_up_and_by_way_of_what(ok: Typed) -> None:
    page, data = ok("blocking", "web").out, ok("blocking", "web", "--json").json

    assert "through TODO-002" in page
    assert [issue["issue"]["id"] for issue in data] == ["ISSUE-001"]


def test_nothing_that_holds_up_is_an_empty_answer(ok: Typed, file: Path) -> None:
    file.write_text(FILE.replace("status: in_progress", "status: resolved"))

    answer = ok("blocking", "web")

    assert (answer.out, answer.err) == (
        "",
        "no open issue blocks work in web; see its state: coord status web\n",
    )
    assert ok("blocking", "web", "--json").json == []


def test_where_everything_stands(ok: Typed) -> None:
    page, data = ok("ecosystem", "status").out, ok("ecosystem", "status", "--json").json

    assert "milestone of PLAN-001" in page
    assert ["todos", "1 completed, 1 blocked, 1 pending"] in words(page)
    assert [late["id"] for late in data["overdue"]] == ["ISSUE-001", "M1"]


def test_a_template_is_a_line_for_each_record_whatever_is_listed_or_shown(ok: Typed) -> None:
    assert ok("list-todos", "--format", r"{id}\t{status}").out.splitlines()[0] == "TODO-001\tcompleted"
    assert ok("list-issues", "--format", "{id} {title}").out.startswith("ISSUE-001 Python")
    assert ok("list-plans", "--format", "{id} {repos}").out == "PLAN-001 api,web\n"
    assert ok("repo", "list", "--format", "{name}").out == "api\nweb\n"
    assert ok("list-deps", "--format", "{consumer}>{provider}").out == "web>api\n"
    assert ok("show-todo", "TODO-002", "--format", "{blocked_by}").out == "TODO-001,ISSUE-001,GONE\n"
    assert ok("blocking", "web", "--format", "{id} {priority} {holds_up}").out.startswith("ISSUE-001 ")


LISTS = {
    "blocking",
    "check-deps",
    "checkpoint list",
    "context list",
    "gateway",
    "run clean",
    "lock list",
    "pr list",
    "message list",
}
"""Commands that print a table of records, besides `list-*`."""


def test_every_list_takes_the_same_template_option(ok: Typed) -> None:
    lists = LISTS | {f"{noun} list" for noun in ["repo", "issue", "todo", "plan", "dep", "run"]}

    for command in sorted(lists):
        assert "--format" in (help_ := ok(*command.split(), "--help").out), command
        assert "Print a line for each record, e.g. '{id} {status}'." in " ".join(
            help_.replace("│", " ").split()
        ), command


@pytest.mark.parametrize("command", ["blocking web", "check-deps", "list-todos", "lock released"])
def test_an_unknown_field_of_a_template_is_refused_with_the_fields_there_are(
    typed: Typed, command: str
) -> None:
    answer = typed(*command.split(), "--format", "{nonsense}")

    assert answer.code == 2
    assert "there is no field {nonsense}" in answer.err
    assert "known: " in answer.err


def test_a_template_with_an_unknown_field_is_refused_also_where_nothing_matches(typed: Typed) -> None:
    answer = typed("list-todos", "--status", "cancelled", "--format", "{title}")

    assert answer.code == 2
    assert "did you mean {task}?" in answer.err


def test_a_pipe_gets_whole_lines_without_colours(ok: Typed) -> None:
    table = ok("list-todos").out

    assert "\x1b" not in table
    assert "Use it wherever it has been waited for during all of these years\n" in table


def test_records_are_exported_to_a_file_or_to_standard_output(ok: Typed, file: Path) -> None:
    ok("export", "--format", "md", "--output", "page.md")
    table = ok("export", "--format", "csv", "--kind", "deps").out

    assert "### In progress (1)" in (file.parent / "page.md").read_text()
    assert table.splitlines()[0].startswith("id,consumer,provider,")
    assert list(ok("export", "--format", "json").json) == ["issues", "todos", "plans", "deps"]


def test_an_export_that_cannot_be_written_says_so(typed: Typed) -> None:
    answer = typed("export", "--format", "md", "--output", "no/where.md")

    assert answer.code == 1
    assert "name another file" in answer.err


def test_json_and_a_template_exclude_each_other(typed: Typed) -> None:
    answer = typed("list-todos", "--json", "--format", "{id}")

    assert answer.code == 2
    assert "choose one" in answer.err
