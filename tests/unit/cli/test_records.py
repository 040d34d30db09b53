"""Records as people keep them: created, listed, changed, finished and deleted, by what they type."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.testbed import Done
from tests.unit.cli.conftest import FILE, Typed


def ids(typed: Typed, *words: str) -> list[str]:
    return [record["id"] for record in typed(*words, "--json").json]


def test_what_is_created_gets_the_next_id_and_is_in_the_file(typed: Typed, file: Path) -> None:
    made = typed(
        "create-issue", "--title", "It is loud", "--repos", "api,web", "--label", "x,y", "--label", "z"
    )

    assert (made.code, made.out, made.err) == (0, "ISSUE-003\n", "created ISSUE-003\n")
    issue = typed("show-issue", "ISSUE-003", "--json").json
    assert (issue["title"], issue["repos"], issue["labels"]) == (
        "It is loud",
        ["api", "web"],
        ["x", "y", "z"],
    )
    assert "# said in spring" in file.read_text()


TODO = "todo --task Do --repo api"
NEW: list[tuple[str, dict[str, object]]] = [
    (
        f"{TODO} --estimate 90m --run 'make x' --criterion 'a, b'",
        {
            "estimated_hours": 1.5,
            "action": {"type": "shell", "run": "make x", "read_only": False},
            "acceptance_criteria": ["a, b"],
        },
    ),
    (f"{TODO} --manual", {"action": {"type": "manual"}, "status": "pending"}),
    (f"{TODO} --blocked-by TODO-001", {"blocked_by": ["TODO-001"]}),
    ("plan --title Next --jobs 3 --target 2027-01-31", {"max_parallel": 3}),
    (
        "dep --consumer api --provider web --constraint '<3' --command x --pattern y",
        {"version_constraint": "<3", "type": "runtime"},
    ),
]


@pytest.mark.parametrize(("line", "fields"), NEW)
def test_each_option_fills_its_field(typed: Typed, line: str, fields: dict[str, object]) -> None:
    kind, *options = shlex.split(line)

    record = typed(kind, "create", *options, "--json").json

    assert {name: record[name] for name in fields} == fields
    assert (record["ready"], record["notes"]) == ([], [])
    assert record["id"] in ids(typed, f"list-{kind}s")


def test_a_script_reads_what_people_are_told_of_a_change(typed: Typed) -> None:
    done = typed("complete-todo", "TODO-002", "--json")

    assert done.json["notes"] == ["TODO-002 is completed, though it waited for TODO-001, ISSUE-001"]
    assert done.json["notes"][0] in done.err


def test_a_description_may_come_from_standard_input(typed: Typed) -> None:
    typed("create-issue", "--title", "Long", "--description", "-", stdin="First line.\n\nSecond: line.\n")

    assert typed("show-issue", "ISSUE-003", "--json").json["description"] == "First line.\n\nSecond: line."


def test_filters_intersect_and_take_several_values(typed: Typed) -> None:
    assert ids(typed, "list-issues") == ["ISSUE-001", "ISSUE-002"]
    assert ids(typed, "list-issues", "--priority", "low,medium") == ["ISSUE-002"]
    assert ids(typed, "list-issues", "--priority", "low", "--priority", "high", "--assignee", "ann") == [
        "ISSUE-002"
    ]
    assert ids(typed, "list-issues", "--label", "old", "--repo", "web") == []
    assert ids(typed, "list-todos", "--status", "blocked", "--plan", "PLAN-001") == ["TODO-002"]
    assert ids(typed, "list-deps", "--consumer", "web") == ["DEP-001"]
    assert [repo["name"] for repo in typed("repo", "list", "--tag", "core", "--json").json] == ["api"]


def test_a_list_is_replaced_or_changed_value_by_value(typed: Typed) -> None:
    def labels(*words: str) -> list[str]:
        typed("update-issue", "ISSUE-001", *words)
        found: list[str] = typed("show-issue", "ISSUE-001", "--json").json["labels"]
        return found

    assert labels("--add-label", "new,old") == ["old", "bad luck", "new"]
    assert labels("--remove-label", "bad luck", "--add-label", "x") == ["old", "new", "x"]
    assert labels("--label", "only") == ["only"]
    assert labels("--label", "") == []


def test_an_empty_value_clears_a_field_and_nothing_else_changes(typed: Typed, file: Path) -> None:
    done = typed("update-issue", "ISSUE-002", "--assignee", "")

    assert done.err == "updated ISSUE-002: assignee\n"
    assert typed("show-issue", "ISSUE-002", "--json").json["assignee"] is None
    changed = [line for line in FILE.splitlines() if line not in file.read_text().splitlines()]
    assert changed == ["    - {id: ISSUE-002, title: It is slow, priority: low, assignee: ann, repos: [web]}"]


def test_one_part_of_a_validation_is_changed_and_the_others_stay_as_they_are_written(
    typed: Typed, file: Path
) -> None:
    typed("dep", "update", "DEP-001", "--pattern", "ok", "--command", "")

    assert "      validation: {expected_pattern: ok, timeout: 30s}\n" in file.read_text()
    assert typed("dep", "update", "DEP-001", "--pattern", "", "--timeout", "").code == 0
    assert typed("dep", "show", "DEP-001", "--json").json["validation"] is None


def test_what_stands_so_already_is_no_change(typed: Typed, file: Path) -> None:
    done = typed("update-issue", "ISSUE-001", "--priority", "high")

    assert (done.code, done.err) == (0, "ISSUE-001 is unchanged\n")
    assert file.read_text() == FILE


def test_closing_the_last_blocker_says_what_is_ready_now(typed: Typed) -> None:
    typed("complete-todo", "TODO-001")
    done = typed("close-issue", "ISSUE-001")

    assert done.err == "closed ISSUE-001; now ready: TODO-002\n"
    assert typed("show-todo", "TODO-002", "--json").json["status"] == "pending"
    again = typed("close-issue", "ISSUE-001")
    assert (again.code, "is closed already" in again.err) == (6, True)


def test_a_todo_is_completed_in_the_file_with_its_hours_and_nothing_is_started(
    typed: Typed, file: Path
) -> None:
    done = typed("complete-todo", "TODO-001", "--hours", "1h", "--json")

    assert (done.json["status"], done.json["actual_hours"], done.json["ready"]) == ("completed", 1.0, [])
    assert not list((file.parent / ".coord").glob("server*"))
    again = typed("complete-todo", "TODO-001")
    assert (again.code, "is completed already" in again.err) == (6, True)


def test_where_redis_does_not_answer_nobody_knows_who_waits_for_a_todo(typed: Typed, file: Path) -> None:
    done = typed("complete-todo", "TODO-001", "--redis", "redis://127.0.0.1:1")

    assert (done.code, "coord todo update TODO-001 --status completed" in done.err) == (7, True), done.err
    assert file.read_text() == FILE


def test_milestones_are_added_and_completed_with_the_plan(typed: Typed) -> None:
    words = shlex.split(
        "--add-milestone 'All of it' --due 2027-03-01 --criterion 'it works' --criterion 'it lasts'"
    )

    done = typed("plan", "update", "PLAN-001", *words, "--complete-milestone", "M1", "--json")

    first, second = done.json["milestones"]
    assert (first["status"], second["id"], second["due"]) == ("completed", "M2", "2027-03-01")
    assert [criterion["text"] for criterion in second["completion_criteria"]] == ["it works", "it lasts"]


def test_a_milestone_is_changed_reopened_and_taken_out(typed: Typed, file: Path) -> None:
    def update(words: str) -> Done:
        return typed("plan", "update", "PLAN-001", *shlex.split(words))

    update("--add-milestone 'All of it' --blocked-by M1 --deliverable 'docs/a, b.md' --due 2027-01-31")
    update("--complete-milestone M1")
    again = update("--complete-milestone M1")
    assert (again.code, "coord plan update PLAN-001 --reopen-milestone M1" in again.err) == (6, True)

    assert update("--milestone M1 --name 'One half' --reopen-milestone M1").code == 0
    assert "{id: M1, name: One half, status: pending}" in file.read_text()
    refused = update("--delete-milestone M1")
    assert (refused.code, "PLAN-001.M2.dependencies names it" in refused.err) == (6, True)

    assert update("--milestone M2 --blocked-by '' --due '' --delete-milestone M1").code == 0
    (left,) = typed("plan", "show", "PLAN-001", "--json").json["milestones"]
    assert (left["id"], left["dependencies"], left["due"], left["deliverables"]) == (
        "M2",
        [],
        None,
        ["docs/a, b.md"],
    )

    update("--delete-milestone M2")
    assert typed("plan", "show", "PLAN-001", "--json").json["milestones"] == []


def test_who_gives_new_work_to_a_plan_that_counts_as_done_is_told(typed: Typed) -> None:
    for todo in ("TODO-001", "TODO-002"):
        typed("complete-todo", todo)
    assert (
        typed("plan", "update", "PLAN-001", "--complete-milestone", "M1", "--status", "completed").err.count(
            "\n"
        )
        == 1
    )

    hint = "coord plan update PLAN-001 --status active"
    assert hint in typed("create-todo", "--task", "Lift more", "--repo", "api", "--plan", "PLAN-001").err
    assert hint in typed("todo", "update", "TODO-001", "--status", "pending").err
    assert hint in typed("plan", "update", "PLAN-001", "--reopen-milestone", "M1").err
    assert hint not in typed("plan", "update", "PLAN-001", "--title", "Raised").err


@pytest.mark.parametrize(
    ("words", "note"),
    [
        (("--pattern", "up"), "expected_pattern has no command"),
        (("--command", "x", "--pattern", "("), "is not a valid regular expression"),
    ],
)
def test_what_a_dependency_can_never_be_checked_by_is_said_when_it_is_written(
    typed: Typed, words: tuple[str, ...], note: str
) -> None:
    made = typed("dep", "create", "--consumer", "api", "--provider", "web", *words)
    changed = typed("dep", "update", "DEP-002", "--notes", "x")

    assert (made.code, "DEP-002 cannot be checked" in made.err, note in made.err, note in changed.err) == (
        0,
        *[True] * 3,
    )


def test_a_plan_says_what_it_lacks(typed: Typed) -> None:
    done = typed("plan", "validate", "PLAN-001")

    assert done.code == 3
    for lacking in ("TODO-001", "TODO-002", "M1"):
        assert lacking in done.out
    assert typed("plan", "validate", "PLAN-001", "--json").json["complete"] is False


CHECKED = """\
title: Checked
status: active
milestones:
  - id: M1
    name: One
    completion_criteria: [{text: it is so, check: "true"}, {text: "it is \\e[31mnot", check: "exit 4"}]
"""


def test_criteria_are_checked_when_that_is_asked_for(typed: Typed) -> None:
    typed("plan", "create", "--from-file", "-", stdin=CHECKED)

    unchecked, checked = (
        typed("plan", "validate", "PLAN-002"),
        typed("plan", "validate", "PLAN-002", "--run-checks"),
    )

    assert "  ? it is so\n  ? it is [31mnot\n" in unchecked.out  # nothing that a terminal would obey
    assert "  ✓ it is so\n  ✗ it is [31mnot\n" in checked.out
    assert "· checking: it is [31mnot" in checked.err
    assert checked.code == 3


def test_what_nobody_names_is_deleted_at_once(typed: Typed) -> None:
    done = typed("issue", "delete", "ISSUE-002", "--yes")

    assert (done.code, done.err) == (0, "deleted ISSUE-002\n")
    assert ids(typed, "list-issues") == ["ISSUE-001"]


RECORDS = [
    {"id": "TODO-010", "task": "First", "repo": "api"},
    {"task": "Second", "repo": "web", "blocked_by": ["TODO-010"], "estimated_hours": 1},
]
YAML = "- {id: TODO-010, task: First, repo: api}\n- task: Second\n  repo: web\n  blocked_by: [TODO-010]\n"


@pytest.mark.parametrize("text", [json.dumps(RECORDS), json.dumps(RECORDS, indent="\t"), YAML])
def test_records_come_from_a_file_or_standard_input(typed: Typed, text: str) -> None:
    made = typed("create-todo", "--from-file", "-", stdin=text)

    assert made.out == "TODO-010\nTODO-011\n"
    assert typed("show-todo", "TODO-011", "--json").json["blocked_by"] == ["TODO-010"]


def test_one_record_from_a_file_is_printed_as_one(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "issue.yaml").write_text("title: From a file\nmetadata: {ticket: 7}\n")

    made = typed("create-issue", "--from-file", "issue.yaml", "--json").json

    assert (made["id"], made["metadata"]) == ("ISSUE-003", {"ticket": 7})


EMPTY = (
    "list-issues",
    "list-todos",
    "list-plans",
    "list-deps",
    "check-deps",
    "blocking api",
    "history search --query x",
)


@pytest.mark.parametrize("command", EMPTY)
def test_an_empty_list_is_one_sentence_with_the_next_command(typed: Typed, file: Path, command: str) -> None:
    file.write_text("repos: [{name: api}]\n")

    done = typed(*command.split())

    assert (done.code, done.out) == (0, "")
    assert re.fullmatch(r"no [^;\n]+; [a-z ]+: coord [^\n]+\n", done.err), done.err
    as_json = typed(*command.split(), "--json").json
    assert (as_json["outcomes"] if command == "check-deps" else as_json) == []
    assert typed(*command.split(), "--format", "{id}").out == ""
