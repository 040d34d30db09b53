"""Long output on a terminal goes through the user's pager; nothing else does."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from coordination.cli.context import CliContext
from coordination.cli.screen.pager import _command
from tests.terminals import on_terminal, typing_on_terminal
from tests.testbed import PLAN, Testbed

TODOS = [{"id": f"T-{number:03}", "repo": "api", "task": f"Do {number}"} for number in range(60)]
HUGE = {"id": "HUGE", "repo": "api", "action": "seq 1 100000"}
ALL = [todo["id"] for todo in TODOS]


@pytest.fixture(scope="module")
def testbed(new_testbed: Callable[[], Testbed]) -> Testbed:
    testbed = new_testbed()
    testbed.write([*TODOS, {"id": "LONG", "repo": "api", "action": "seq 1 100"}, HUGE])
    return testbed


@pytest.fixture
def pager(tmp_path: Path) -> Path:
    """A program that keeps what it is given, and its environment."""
    program = tmp_path / "pager"
    program.write_text(
        f"#!/bin/sh\nenv > {shlex.quote(str(tmp_path))}/env\ncat > {shlex.quote(str(tmp_path))}/text\n"
        f"echo PAGED\n"
    )
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    "words",
    [
        "list-todos", "todo list", "help running", "help --all", "plan show PLAN-001", "--help",
        "list-todos --help",
        "issue -h", "plan graph PLAN-001", "sweep PLAN-001 --dry-run",
    ],
)  # fmt: skip
def test_what_is_longer_than_the_screen_goes_through_the_pager(
    testbed: Testbed, pager: Path, words: str
) -> None:
    said = on_terminal(testbed, *words.split(), COORD_PAGER=str(pager))

    assert said == "PAGED\n"
    assert len((pager.parent / "text").read_text().splitlines()) > 24


def test_the_pager_gets_every_line_in_colour(testbed: Testbed, pager: Path) -> None:
    on_terminal(testbed, "list-todos", COORD_PAGER=str(pager))

    text = (pager.parent / "text").read_text()
    assert [name for name in ALL if name in text] == ALL
    assert "\x1b[1m" in text


def test_the_general_variable_counts_where_ours_is_not_set(testbed: Testbed, pager: Path) -> None:
    assert on_terminal(testbed, "list-todos", PAGER=str(pager)) == "PAGED\n"
    assert "PAGED" not in on_terminal(testbed, "list-todos", PAGER=str(pager), COORD_PAGER="")


def test_a_pager_may_have_arguments(testbed: Testbed) -> None:
    shown = on_terminal(testbed, "list-todos", COORD_PAGER="sed -e 's/^/| /'")

    assert [name for name in ALL if f"| {name}" in shown or f"\x1b[0m| {name}" in shown] == ALL


@pytest.mark.parametrize(
    "env",
    [
        {"COORD_PAGER": "cat"}, {"COORD_PAGER": ""}, {"COORD_PAGER": "/no/such/pager"},
        {"COORD_PAGER": "'open"},
        {"COORD_PAGER": "touch paged", "TERM": "dumb"}, {"COORD_PAGER": "false"},
        {"COORD_PAGER": "sh -c 'cat; exit 1'"},
        {"COORD_PAGER": "sh -c 'no-such-pager'"},
    ],
    ids=["cat", "empty", "missing", "unreadable", "dumb", "failing", "failing late", "no program"],
)  # fmt: skip
def test_without_a_pager_all_is_printed(testbed: Testbed, env: dict[str, str]) -> None:
    said = on_terminal(testbed, "list-todos", **env)

    assert not (testbed.folder / "paged").exists()
    assert [name for name in ALL if name in said] == ALL


@pytest.mark.parametrize("variable", ["COORD_TODO_ID", "COORD_CONNECTION"])
def test_the_environment_of_a_todo_starts_no_pager(
    testbed: Testbed, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    todo = {"COORD_PAGER": "touch paged", variable: "x"}
    for name, value in todo.items():
        monkeypatch.setenv(name, value)

    on_terminal(testbed, "help", "--all", code=4, **todo)
    with click.Context(click.Command("help"), obj=CliContext()):
        assert _command() == []

    assert not (testbed.folder / "paged").exists()


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("list-todos --no-pager", ALL),
        ("--no-pager list-todos", ALL),
        ("list-todos --json", ALL),
        ("list-todos --format {id}", ALL),
        ("list-todos --help --no-pager", ["--assignee"]),
        ("repo list", ["api"]),
    ],
)
def test_data_and_what_fits_the_screen_or_wants_no_pager_are_printed(
    testbed: Testbed, pager: Path, words: str, shown: list[str]
) -> None:
    said = on_terminal(testbed, *words.split(), COORD_PAGER=str(pager))

    assert "PAGED" not in said
    assert [name for name in shown if name in said] == shown


def test_a_pipe_starts_no_pager(testbed: Testbed, pager: Path) -> None:
    assert ALL[-1] in testbed.ok("list-todos", COORD_PAGER=str(pager)).out
    assert not (pager.parent / "text").exists()


def test_a_reader_who_leaves_the_pager_early_made_no_error(testbed: Testbed) -> None:
    said = on_terminal(testbed, "list-todos", COORD_PAGER="head -n 1")

    assert next(line for line in said.splitlines() if line.strip()).startswith("\x1b[1mTODO")
    assert len(said.splitlines()) == 1


def test_a_pager_gets_no_secret(testbed: Testbed, pager: Path) -> None:
    on_terminal(testbed, "list-todos", COORD_PAGER=str(pager), COORD_MCP_TOKEN="0123456789abcdef")

    told = (pager.parent / "env").read_text()
    assert "COORD_" not in told
    assert "LESS=FRX" in told


def test_what_others_wrote_does_not_drive_the_terminal_through_the_pager(
    testbed: Testbed, pager: Path
) -> None:
    evil = Testbed(pager.parent / "evil")
    evil.folder.mkdir()
    evil.write([{**todo, "task": "\x1b]0;owned\x07\x1b[2J"} for todo in TODOS])

    on_terminal(evil, "plan", "show", PLAN, COORD_PAGER=str(pager))

    assert "\x1b]" not in (pager.parent / "text").read_text()


def test_logs_are_paged_and_followed_ones_are_not(testbed: Testbed, pager: Path) -> None:
    testbed.ok("todo", "execute", "LONG")

    assert on_terminal(testbed, "logs", "last", COORD_PAGER=str(pager)) == "PAGED\n"
    assert "PAGED" not in on_terminal(testbed, "logs", "last", "-f", COORD_PAGER=str(pager))


def test_a_long_log_is_left_early_without_an_error(testbed: Testbed) -> None:
    testbed.ok("todo", "execute", "HUGE")

    assert on_terminal(testbed, "logs", "last", COORD_PAGER="head -n 1").count("\n") == 1


@pytest.mark.skipif(not any(Path(f, "less").exists() for f in os.get_exec_path()), reason="needs less")
def test_less_shows_a_screen_and_q_ends_it(testbed: Testbed) -> None:
    code, said = typing_on_terminal(testbed, "list-todos", after={"T-010": "q"}, PAGER="less")

    assert code == 0
    assert ALL[0] in said
    assert ALL[-1] not in said
