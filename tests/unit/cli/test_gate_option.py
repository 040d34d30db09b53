"""A gate is typed in a word, and shown as what it means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

FILE = """\
repos: [{name: api, path: api}]
coordination:
  plans: [{id: PLAN-001, title: a plan}]
  todos: [{id: TODO-001, task: ship, repo: api, plan: PLAN-001, action: "true"}]
"""


def declared(file: Path) -> Any:
    return yaml.safe_load(file.read_text())["coordination"]


@pytest.mark.parametrize(
    ("said", "written", "shown"),
    [
        ("yes", True, "waits for an approval"),
        ("24h", {"timeout": "24h"}, "waits for an approval, rejected after 24 h"),
        (
            "90m:approve",
            {"timeout": "90m", "on_timeout": "approve"},
            "waits for an approval, approved after 1.5 h",
        ),
    ],
)
def test_a_todo_and_a_milestone_get_a_gate_and_show_it(
    typed: Any, file: Path, said: str, written: object, shown: str
) -> None:
    typed("todo", "update", "TODO-001", "--gate", said)
    typed("plan", "update", "PLAN-001", "--add-milestone", "reviewed", "--gate", said)

    assert declared(file)["todos"][0]["gate"] == written
    assert declared(file)["plans"][0]["milestones"][0]["gate"] == written
    assert shown in typed("show-todo", "TODO-001").out
    assert shown in typed("plan", "show", "PLAN-001").out


def test_an_empty_value_takes_it_away(typed: Any, file: Path) -> None:
    typed("todo", "update", "TODO-001", "--gate", "yes")
    typed("todo", "update", "TODO-001", "--gate", "")

    assert "gate" not in declared(file)["todos"][0]


@pytest.mark.parametrize(
    ("said", "told"), [("soon", "gate.timeout needs a duration"), ("1h:aprove", "did you mean approve?")]
)
def test_what_is_no_gate_is_refused(typed: Any, file: Path, said: str, told: str) -> None:
    refused = typed("todo", "update", "TODO-001", "--gate", said)

    assert (refused.code, told in refused.err) == (2, True)
    assert file.read_text() == FILE
