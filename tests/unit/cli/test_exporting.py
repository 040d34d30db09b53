"""Records for spreadsheets, pages and programs."""

from __future__ import annotations

import csv
import json
from datetime import date
from io import StringIO

import pytest

from coordination.cli.tracker.exchange import as_csv, as_json, as_markdown
from coordination.models import Dependency, Issue, Plan
from coordination.tracker.records import TodoInView

TODO = TodoInView(
    id="TODO-1",
    task="Lift, and use, it",
    repo="api",
    labels=("core", "später"),
    description='two\nlines, "quoted"',
)
ISSUE = Issue(id="ISSUE-1", title="Old | <b>older</b> [x](y) @jo", status="closed", target=date(2026, 1, 3))


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(text, newline="")))


def test_csv_reads_back_as_it_was_with_lists_joined() -> None:
    text = as_csv({"todos": [TODO]})

    (row,) = read(text)
    assert text.endswith("\r\n")
    assert list(row) == list(TodoInView.model_fields)
    assert (row["task"], row["labels"], row["description"]) == (TODO.task, "core;später", TODO.description)
    assert (row["assignee"], row["env"], row["blocked_by"]) == ("", "", "")


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_a_spreadsheet_carries_out_nothing(begin: str) -> None:
    title = f'{begin}HYPERLINK("http://x")'

    (row,) = read(as_csv({"issues": [ISSUE.model_copy(update={"title": title, "labels": (title,)})]}))

    assert row["title"] == row["labels"] == f"'{title}"


def test_several_kinds_share_a_table_that_says_which_is_which() -> None:
    issue, todo = read(as_csv({"issues": [ISSUE], "todos": [TODO], "plans": [], "deps": []}))

    assert (issue["kind"], issue["title"], issue["task"]) == ("issues", ISSUE.title, "")
    assert (todo["kind"], todo["title"], todo["task"]) == ("todos", "", TODO.task)


def test_json_is_an_array_or_an_object_of_arrays() -> None:
    assert [record["id"] for record in json.loads(as_json({"todos": [TODO]}))] == ["TODO-1"]
    assert list(json.loads(as_json({"issues": [ISSUE], "todos": [TODO]}))) == ["issues", "todos"]


def test_markdown_has_a_table_for_each_status_in_the_order_of_a_records_life() -> None:
    todos = [TODO, TODO.model_copy(update={"id": "TODO-2", "status": "in_progress", "run_id": "R"}), TODO]

    lines = as_markdown({"todos": todos, "plans": [Plan(id="P", title="p")], "deps": []}).splitlines()

    assert [line for line in lines if line.startswith("#")] == [
        "## Todos",
        "### Pending (2)",
        "### In progress (1)",
        "## Plans",
        "### Draft (1)",
        "## Dependencies",
    ]
    assert "| Todo | Task | Repository | Priority |" in lines
    assert "| Todo | Task | Repository | Priority | Run |" in lines
    assert lines[-2:] == ["None.", ""]


def test_text_of_the_file_is_text_on_the_page() -> None:
    page = as_markdown({"issues": [ISSUE]})

    assert r"| Old \| \<b\>older\</b\> \[x\](y) @\u200bjo |".replace("\\u200b", "\u200b") in page
    assert "@jo" not in page
    assert "| a b |" in as_markdown({"issues": [ISSUE.model_copy(update={"title": "a\x1b\n\x07b"})]})


def test_every_kind_has_its_columns() -> None:
    page = as_markdown(
        {"deps": [Dependency(id="D", consumer="web", provider="api", version_constraint="^2")]}
    )

    assert "| D | web | api | ^2 | runtime |" in page
