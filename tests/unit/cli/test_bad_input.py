"""Input that the tracker refuses: with the reason, the next step, a code of its own, and nothing written."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.unit.cli.conftest import FILE, Typed

LONG = "x" * 300
TODO = ("create-todo", "--task", "Do", "--repo", "api")

DEP = ("dep", "create", "--consumer", "api", "--provider", "web")

REFUSED = [
    (("export", "--output", "ecosystem.yaml"), 6, ["is an ecosystem file", "name another file"]),
    (("schema", "--output", "ecosystem.yaml"), 6, ["is an ecosystem file", "name another file"]),
    (("run", "export", "last", "ecosystem.yaml"), 6, ["is an ecosystem file", "name another file"]),
    (("context", "export", "ecosystem.yaml"), 6, ["is an ecosystem file", "name another file"]),
    (("history", "export", "ecosystem.yaml"), 6, ["exists already", "name another file"]),
    (("history", "search", "--since", "0001-01-01"), 2, ["out of range", "coord history search --help"]),
    (("service", "forget"), 2, ["--host"]),
    (("trust", "add", "LINE", "--until", "999999999d"), 2, ["--until", "out of range"]),
    ((*DEP, "--expected-status", "9" * 5000), 2, ["needs a whole number"]),
    (("check-deps", "--dep", f"DEP-{'9' * 5000}"), 2, ["there is no"]),
    (("schema", "--output", LONG), 2, ["File name too long", "choose a shorter name"]),
    (("plan", "diff", "\udcff"), 2, ["not UTF-8"]),
    (("events",), 2, ["use: coord event list"]),
    (("forecast", "PLAN-001"), 2, ["use: coord plan forecast"]),
    (("list-todos", "--format", "{id:<99999999999}"), 2, ["wider than any line", "write for example"]),
    (
        ("list-todos", "--status", "pnding"),
        2,
        ["must be one of pending, in_progress, blocked", "did you mean pending"],
    ),
    (("list-issues", "--assignee", ""), 2, ["--assignee", "leave the option out"]),
    (("show-issue", "ISSUE-01"), 2, ["no issue 'ISSUE-01'", "did you mean ISSUE-001"]),
    (("dep", "create", "--consumer", "web", "--provider", "web"), 2, ["web needs itself"]),
    (
        ("dep", "create", "--consumer", "api", "--provider", "web", "--constraint", "bogus >"),
        2,
        ["write it like"],
    ),
    (("todo", "execute", "TODO-001", "--timeout", "0"), 2, ["--timeout", "more than 0"]),
    (("sweep", "PLAN-001", "--timeout", "0m"), 2, ["--timeout", "more than 0"]),
    ((*TODO, "--id", "no good"), 2, ["id may hold letters"]),
    ((*TODO, "--estimate", "soon"), 2, ["--estimate", "2h, 90m or 1.5"]),
    ((*TODO, "--timeout", "soon"), 2, ["timeout needs a duration like 90s"]),
    ((*TODO, "--run", "x", "--manual"), 2, ["--run and --manual exclude each other"]),
    (("create-todo",), 2, ["--task and --repo are missing", "--from-file FILE"]),
    (("create-issue", "--title", "a\udcff"), 2, ["--title", "not UTF-8"]),
    (("create-issue", "--title", ""), 2, ["--title is missing"]),
    (("update-issue", "ISSUE-001", "--title", ""), 2, ["title is missing"]),
    (
        ("dep", "create", "--consumer", "web", "--provider", "api", "--expected-status", "ok"),
        2,
        ["--expected-status", "ok"],
    ),
    (("update-issue", "ISSUE-001"), 2, ["nothing to change", "--title", "--label"]),
    (
        ("update-issue", "ISSUE-001", "--label", "x", "--add-label", "y"),
        2,
        ["--label and --add-label exclude"],
    ),
    (("update-issue", "ISSUE-001", "--remove-label", "x"), 2, ["no 'x' to remove", "it has old, bad luck"]),
    (("plan", "update", "PLAN-001", "--due", "2026-01-31"), 2, ["--add-milestone NAME", "--milestone ID"]),
    (("plan", "update", "PLAN-001", "--milestone", "M1"), 2, ["--due"]),
    (
        ("plan", "update", "PLAN-001", "--milestone", "M1", "--add-milestone", "x", "--due", "2026-01-31"),
        2,
        ["exclude"],
    ),
    (("plan", "update", "PLAN-001", "--add-milestone", "x", "--name", "y"), 2, ["exclude each other"]),
    (
        ("plan", "update", "PLAN-001", "--complete-milestone", "M2"),
        2,
        ["PLAN-001 has no milestone 'M2'", "coord plan show PLAN-001"],
    ),
    (
        ("plan", "update", "PLAN-001", "--status", "completed"),
        3,
        ["TODO-001", "coord plan validate PLAN-001"],
    ),
    (("todo", "delete", "TODO-001"), 6, ["TODO-002.blocked_by", "--cascade"]),
    (("plan", "delete", "PLAN-001"), 6, ["TODO-001", "TODO-002", "--cascade"]),
    (("plan", "delete", "PLAN-001", "--cascade"), 2, ["TODO-001 is deleted, too", "--cascade --yes"]),
    (("issue", "delete", "ISSUE-001"), 2, ["no terminal", "coord issue delete ISSUE-001 --yes"]),
    (("todo", "delete", "--", "TODO-002"), 6, ["ISSUE-001.blocking"]),
    (("dep", "delete", "--json", "--", "DEP-001"), 2, ["coord dep delete --json --yes -- DEP-001"]),
    (("complete-todo", "TODO-001", "--hours", "x"), 2, ["--hours", "2h, 90m or 1.5"]),
    (
        ("create-issue", "--from-file", "nowhere.yaml"),
        2,
        ["nowhere.yaml cannot be read", "name another file"],
    ),
    (("create-issue", "--from-file", "-", "--title", "x"), 2, ["leave the other options out"]),
]


@pytest.mark.parametrize(
    ("words", "code", "says"), REFUSED, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_it_is_refused_with_what_to_do(
    typed: Typed, file: Path, words: tuple[str, ...], code: int, says: list[str]
) -> None:
    done = typed(*words)

    assert (done.code, done.out) == (code, "")
    assert [word for word in says if word not in done.err] == [], done.err
    assert file.read_text() == FILE


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("titel: x", "did you mean title"),
        ("[1]", "its item 1 is not a record"),
        ("title: {", "standard input:2"),
        ("title: a\ntitle: b", "'title' is written twice"),
        ("", "it is not a record"),
        ("[" * 100_000, "levels deep"),
        ("- {title: a}\n- {title: b, repos: [ap]}", "record 2: there is no repo 'ap'"),
        ("- {title: a}\n- {titel: b}", "record 2: the new issue"),
    ],
)
def test_records_that_cannot_be_read_are_refused(typed: Typed, file: Path, text: str, says: str) -> None:
    done = typed("create-issue", "--from-file", "-", stdin=text)

    assert (done.code, says in done.err) == (2, True), done.err
    assert file.read_text() == FILE


def test_a_closed_standard_input_is_nobody_to_ask(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io, "TextIOWrapper", lambda _: None)  # the input given by `typed`

    asked, read = typed("create-issue"), typed("create-issue", "--title", "x", "--description", "-")
    request = typed("pr", "create", "PLAN-001", "--body", "-")

    assert (asked.code, "--title is missing" in asked.err) == (2, True)
    assert [(one.code, "standard input is closed" in one.err) for one in (read, request)] == [(2, True)] * 2


def test_of_a_text_that_never_ends_no_more_is_read_than_it_may_have(typed: Typed) -> None:
    done = typed("pr", "create", "PLAN-001", "--body", "/dev/zero")

    assert (done.code, "more than 1,048,576 bytes" in done.err) == (2, True), done.err


def test_a_file_that_somebody_broke_is_refused_with_line_and_column(typed: Typed, file: Path) -> None:
    broken = FILE.replace("priority: low,", "priority: low")
    file.write_text(broken)

    done = typed("close-issue", "ISSUE-001")

    assert done.code == 2
    assert "ecosystem.yaml:21: YAML, column" in done.err
    assert file.read_text() == broken


def test_where_no_file_is_it_says_how_to_get_one(typed: Typed, file: Path) -> None:
    file.unlink()

    done = typed("create-issue", "--title", "x")

    assert (done.code, "coord init" in done.err) == (2, True)


@pytest.mark.parametrize(
    "words", [("repo", "list"), ("validate",), ("status", "api"), ("repo", "status")], ids=" ".join
)
def test_a_repository_at_which_the_system_does_not_look_is_not_there(
    typed: Typed, file: Path, words: tuple[str, ...]
):
    file.write_text(file.read_text().replace("path: api", f"path: {LONG}"))

    done = typed(*words)

    assert (done.code, "fault" in done.err) == (0, False)


def test_a_plan_for_such_a_repository_is_refused_with_the_reason(typed: Typed, file: Path):
    file.write_text(file.read_text().replace("path: api", f"path: {LONG}"))

    done = typed("sweep", "PLAN-001")

    assert done.code == 2
    assert "File name too long" in done.err


def test_a_call_in_a_deleted_folder_is_refused_with_the_reason(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    done = typed("list-todos")

    assert done.code == 1
    assert done.err.startswith("error: the current folder cannot be used")
