"""Simultaneous edits by several people, or of several records by one."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordination.errors import NotFound
from coordination.tracker.manager import CoordinationManager
from tests.unit.tracker.desks import desk

TEXT = """\
repos: [{name: api}]
coordination:
  issues:
    - {id: ISSUE-001, title: It breaks, labels: [old]}
"""


def test_two_who_each_add_a_label_have_both_added(tmp_path: Path) -> None:
    ann = desk(tmp_path, TEXT)
    ben = CoordinationManager(ann.document)

    ann.update_issue("ISSUE-001", lambda issue: {"labels": [*issue.labels, "ann"]})
    ben.update_issue("ISSUE-001", lambda issue: {"labels": [*issue.labels, "ben"]})

    assert ben.get_issue("ISSUE-001").labels == ("old", "ann", "ben")


def test_many_records_are_one_edit_and_may_name_each_other(tmp_path: Path) -> None:
    manager = desk(tmp_path, TEXT)
    todos = [
        {"id": "A", "task": "a", "repo": "api"},
        {"id": "B", "task": "b", "repo": "api", "blocked_by": ["A"]},
    ]

    made = manager.create_all("todo", [*todos, {"task": "c", "repo": "api"}])

    assert [edited.record.id for edited in made] == ["A", "B", "TODO-001"]
    with pytest.raises(NotFound):
        manager.create_all("todo", [{"task": "d", "repo": "api"}, {"task": "e", "repo": "nowhere"}])
    assert [todo.id for todo in CoordinationManager.open(manager.document.path).list_todos()] == [
        "A",
        "B",
        "TODO-001",
    ]
