"""-q and -v, before and behind the command."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Typed


@pytest.mark.parametrize("words", [("-q", "create-issue"), ("create-issue", "-q"), ("issue", "-q", "create")])
def test_quiet_prints_the_result_alone(typed: Typed, words: tuple[str, ...]) -> None:
    typed("validate")
    before = sys.stderr

    done = typed(*words, "--title", "New")

    assert (done.code, done.out, done.err) == (0, "ISSUE-003\n", "")
    assert sys.stderr is before


def test_quiet_leaves_errors(typed: Typed) -> None:
    done = typed("-q", "show-issue", "NONE")

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")


def test_quiet_leaves_warnings(typed: Typed, file: Path) -> None:
    file.write_text(
        file.read_text().replace("    - id: TODO-001", "    - id: TODO-001\n      labels: [x, x]")
    )
    loud = [line for line in typed("validate").err.splitlines() if line.startswith("warning:")]

    assert typed("validate", "-q").err.splitlines() == loud


def test_quiet_leaves_a_password_that_is_shown_once(typed: Typed) -> None:
    assert "COORD_REDIS_URL=" in typed("-q", "acl", "--role", "keeper", "--redis", "redis://127.0.0.1:1").err


@pytest.mark.parametrize(
    "words", [("-v", "repo", "list"), ("repo", "list", "-v"), ("repo", "list", "--verbose")]
)
def test_verbose_names_the_file_on_standard_error(typed: Typed, file: Path, words: tuple[str, ...]) -> None:
    plain, done = typed("repo", "list"), typed(*words)

    assert done.out == plain.out
    assert f"INFO coordination.api.access: ecosystem file {file}" in done.err
    assert "DEBUG" not in done.err
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [A-Z]{3}\S* INFO ", done.err)


@pytest.mark.parametrize("words", [("-vv", "repo", "list"), ("-v", "repo", "list", "-v")])
def test_twice_verbose_prints_more(typed: Typed, words: tuple[str, ...]) -> None:
    assert "DEBUG coordination" in typed(*words).err


def test_verbose_ends_with_the_call(typed: Typed) -> None:
    typed("-vv", "repo", "list")

    assert logging.getLogger("coordination").level == logging.NOTSET
    assert typed("repo", "list").err == ""


def test_verbose_hides_the_password_of_redis(typed: Typed) -> None:
    done = typed("-vv", "lock", "list", "--redis", "redis://:hunter2secret@127.0.0.1:1")

    assert done.code == 7
    assert "hunter2secret" not in done.err
    assert "INFO coordination.api.access: Redis redis://:***@127.0.0.1:1" in done.err


def test_verbose_and_quiet_contradict_each_other(typed: Typed) -> None:
    assert [typed("-v", "-q", "repo", "list").code, typed("-q", "repo", "list", "-v").code] == [2, 2]
