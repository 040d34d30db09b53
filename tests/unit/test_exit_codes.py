"""The exit codes of commands: one table, which the documentation shows."""

from __future__ import annotations

import re
from pathlib import Path

from coordination import errors
from coordination.errors import CoordinationError, ExitCode

PAGE = Path(__file__).parents[2] / "docs" / "exit-codes.md"


def test_the_documentation_lists_every_exit_code() -> None:
    assert [int(one) for one in re.findall(r"^\| (\d+) \|", PAGE.read_text(), re.MULTILINE)] == list(ExitCode)


def test_the_tree_of_errors_names_the_exit_code_of_each() -> None:
    assert errors.__doc__
    named = dict(re.findall(r"(\w+) +(\d) *(?:  |$)", errors.__doc__, re.MULTILINE))
    found = {name: one for name, one in vars(errors).items() if isinstance(one, type)}
    assert {name: str(int(found[name].exit_code)) for name in named} == named
    assert {"CoordinationError", "Conflict", "Unreachable"} <= named.keys()
    assert issubclass(CoordinationError, Exception)
