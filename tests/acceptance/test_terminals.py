"""Every kind of terminal, and none: narrow, wide, dumb, without colour, in another alphabet, closed early, a
pipe.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from datetime import datetime
from tempfile import TemporaryFile
from typing import IO
from zoneinfo import ZoneInfo

import click
import pytest

from tests.terminals import on_terminal, typing_on_terminal
from tests.testbed import COORD, FORKS, PLAN, Testbed, plain

TODOS = [
    {"id": "A", "repo": "api", "task": "Ünïcode ✓ first", "action": "true"},
    {"id": "B", "repo": "web", "task": "second", "blocked_by": ["A"], "action": "true"},
]
LATIN = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "iso-8859-1"}
ASCII = {**LATIN, "PYTHONIOENCODING": "ascii"}
FILE = """\
repos: [{name: api}, {name: web}]
coordination:
  plans: [{id: PLAN-001, title: Lift}]
  todos:
    - {id: TODO-001, task: Lift it, repo: api, plan: PLAN-001}
    - id: TODO-002
      task: Use it wherever it has been waited for during all of these years
      repo: web
      status: blocked
      blocked_by: [TODO-001]
"""


@pytest.fixture(scope="module")
def testbed(new_testbed: Callable[[], Testbed]) -> Testbed:
    made = new_testbed()
    made.write(TODOS)
    made.up()
    return made


def test_off_a_terminal_a_sweep_says_line_by_line_what_begins_and_what_ends(testbed: Testbed) -> None:
    for words, env in (((), {}), (("--json",), {"FORCE_COLOR": "1"})):
        testbed.write(TODOS)
        swept = testbed.ok("sweep", PLAN, *words, **env)
        lines = re.sub("\x1b\\[[0-9;]*m", "", swept.err).splitlines()

        begun = [line.split()[1] for line in lines if line.startswith("▶")]
        ended = [line.split()[1] for line in lines if line.startswith("✓")]
        assert (begun, ended) == (["A", "B"], ["A", "B"])
        assert not re.search("[\x00-\x08\x0b-\x1a\x1c-\x1f]", swept.err)
    assert swept.json["status"] == "succeeded"


COMMANDS = ("sweep", PLAN), ("list-todos",), ("plan", "graph", PLAN), ("show-run",)


@pytest.mark.parametrize(
    ("env", "commands"),
    [(LATIN, COMMANDS[:1]), (ASCII, COMMANDS), ({"TERM": "dumb"}, COMMANDS), ({"NO_COLOR": "1"}, COMMANDS)],
    ids=("latin", "ascii", "dumb", "plain"),
)
def test_no_terminal_and_no_alphabet_ends_in_a_traceback(
    testbed: Testbed, env: dict[str, str], commands: Sequence[Sequence[str]]
) -> None:
    testbed.write(TODOS)
    for words in commands:
        piped = testbed.ok(*words, **env)
        testbed.write(TODOS)
        assert "Traceback" not in piped.err
    if "TERM" in env:
        seen = on_terminal(testbed, "sweep", PLAN, **env)
        assert "\x1b[?25l" not in seen
        assert "\r" not in seen


@pytest.mark.parametrize("columns", [1, 20, 500])
def test_no_width_ends_in_a_traceback(testbed: Testbed, columns: int) -> None:
    testbed.write(TODOS)
    for words in (
        ("list-todos",),
        ("show-todo", "B"),
        ("ecosystem", "status"),
        ("list-todos", "--help"),
        ("sweep", PLAN),
    ):
        assert "Traceback" not in on_terminal(testbed, *words, columns=columns)


@pytest.mark.parametrize("words", ["list-todos --json", "list-todos", "schema", "plan graph PLAN-001"])
def test_a_reader_that_has_enough_ends_nothing_in_a_traceback(testbed: Testbed, words: str) -> None:
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    assert reader.stdin is not None
    reader.wait()
    with reader.stdin, TemporaryFile() as errors:
        streams: dict[str, IO[bytes]] = {"stdout": reader.stdin, "stderr": errors}
        FORKS.begin([str(COORD), *words.split()], cwd=testbed.folder, env=plain(), **streams).wait(60)
        errors.seek(0)
        said = errors.read()

    assert b"Traceback" not in said
    assert b"coord has a fault" not in said


def test_a_table_has_moments_in_the_readers_zone_and_json_in_utc(testbed: Testbed) -> None:
    testbed.write(TODOS)
    testbed.ok("sweep", PLAN)

    table = testbed.ok("list-runs", "--wide", "--limit", "1", TZ="America/St_Johns").out
    (run,) = testbed.ok("list-runs", "--limit", "1", "--json", TZ="America/St_Johns").json

    moment = datetime.fromisoformat(run["started_at"])
    assert moment.utcoffset().total_seconds() == 0
    here = moment.astimezone(ZoneInfo("America/St_Johns"))
    assert f"{here:%Y-%m-%d %H:%M:%S %Z}" in table
    assert f"{moment:%Y-%m-%d %H:%M:%S}" not in table


def test_a_question_is_asked_of_a_quiet_call_too(testbed: Testbed) -> None:
    testbed.write(TODOS)
    answers = {"with all this?": "n\n"}

    code, said = typing_on_terminal(testbed, "-q", "todo", "delete", "A", "--cascade", after=answers)

    assert code == 1, said
    assert "B" in said


@pytest.fixture
def declared(testbed: Testbed) -> Testbed:
    testbed.file.write_text(FILE)
    return testbed


def test_a_terminal_is_not_overflowed_and_shows_states_in_colour(declared: Testbed) -> None:
    table = on_terminal(declared, "list-todos", columns=50)
    page = on_terminal(declared, "show-todo", "TODO-002", columns=50)

    assert "\x1b[33mblocked\x1b[0m" in table
    assert max(len(line) for line in click.unstyle(table + page).splitlines()) <= 50
    assert "…" in table


def test_no_color_is_obeyed(declared: Testbed) -> None:
    coloured = on_terminal(declared, "show-todo", "TODO-002")
    without = on_terminal(declared, "show-todo", "TODO-002", NO_COLOR="1")

    assert "\x1b" in coloured
    assert "\x1b" not in without
    assert click.unstyle(coloured) == without


def test_a_terminal_shows_once_what_was_created(declared: Testbed) -> None:
    (line,) = on_terminal(declared, "create-issue", "--title", "Once").splitlines()

    assert line.startswith("created ISSUE-")


@pytest.mark.parametrize(
    "answers",
    [
        {"Task: ": "Paint it", "Repo (api, web): ": "web"},
        {
            "Task: ": " ",
            "it cannot be empty": " Paint it ",
            "Repo (api, web): ": "wep",
            "there is no 'wep' (did you mean 'web'?)": "web",
        },
    ],
    ids=["at once", "again after wrong answers"],
)
def test_missing_fields_are_asked_for(declared: Testbed, answers: dict[str, str]) -> None:
    typed = {question: f"{answer}\n" for question, answer in answers.items()}

    code, said = typing_on_terminal(declared, "create-todo", after=typed)

    created = re.search(r"created (TODO-\d+)", said)
    assert code == 0, said
    assert created, said
    made = declared.ok("show-todo", created[1], "--json").json
    assert (made["task"], made["repo"]) == ("Paint it", "web")


@pytest.mark.parametrize(
    ("record", "answer", "code", "left"),
    [("todo", "n", 1, 2), ("todo", "y", 0, 1), ("plan", "n", 1, 2)],
)
def test_a_deletion_of_further_records_is_shown_and_confirmed(
    declared: Testbed, record: str, answer: str, code: int, left: int
) -> None:
    name = f"{record.upper()}-001"
    answers = {f"Delete {name} with all this?": f"{answer}\n"}

    ended, said = typing_on_terminal(declared, record, "delete", name, "--cascade", after=answers)

    shown = "TODO-001 is deleted, too" if record == "plan" else "TODO-001 is removed from TODO-002.blocked_by"
    assert (ended, shown in said) == (code, True), said
    assert len(declared.ok("list-todos", "--json").json) == left
