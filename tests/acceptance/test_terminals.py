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

import pytest

from tests.terminals import on_terminal, typing_on_terminal
from tests.testbed import COORD, FORKS, PLAN, Testbed, plain

TODOS = [
    {"id": "A", "repo": "api", "task": "Ünïcode ✓ first", "action": "true"},
    {"id": "B", "repo": "web", "task": "second", "blocked_by": ["A"], "action": "true"},
]
LATIN = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "iso-8859-1"}
ASCII = {**LATIN, "PYTHONIOENCODING": "ascii"}


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


COMMANDS = ("sweep", PLAN), ("list-todos",), ("graph", PLAN), ("show-run",)


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
        ("ecosystem-status",),
        ("list-todos", "--help"),
        ("sweep", PLAN),
    ):
        assert "Traceback" not in on_terminal(testbed, *words, columns=columns)


@pytest.mark.parametrize("words", ["list-todos --json", "list-todos", "schema", "graph PLAN-001"])
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

    table = testbed.ok("list-runs", "--limit", "1", TZ="America/St_Johns").out
    (run,) = testbed.ok("list-runs", "--limit", "1", "--json", TZ="America/St_Johns").json

    moment = datetime.fromisoformat(run["started_at"])
    assert moment.utcoffset().total_seconds() == 0
    here = moment.astimezone(ZoneInfo("America/St_Johns"))
    assert f"{here:%Y-%m-%d %H:%M:%S %Z}" in table
    assert f"{moment:%Y-%m-%d %H:%M:%S}" not in table


def test_a_question_is_asked_of_a_quiet_call_too(testbed: Testbed) -> None:
    testbed.write(TODOS)
    answers = {"with all this?": "n\n"}

    code, said = typing_on_terminal(testbed, "-q", "delete-todo", "A", "--cascade", after=answers)

    assert code == 1, said
    assert "B" in said
