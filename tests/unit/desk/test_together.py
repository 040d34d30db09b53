"""What several people, or one with several records, do at the same time."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordination.desk.manager import CoordinationManager
from coordination.ecosystem.document import load
from coordination.errors import NotFound

FILE = """\
repos: [{name: api}]
coordination:
  issues:
    - {id: ISSUE-001, title: It breaks, labels: [old]}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ecosystem.yaml"
    path.write_text(FILE)
    return path


def test_two_who_each_add_a_label_have_both_added(path: Path) -> None:
    ann, ben = CoordinationManager(load(path)), CoordinationManager(load(path))

    ann.update_issue("ISSUE-001", lambda issue: {"labels": [*issue.labels, "ann"]})
    ben.update_issue("ISSUE-001", lambda issue: {"labels": [*issue.labels, "ben"]})

    assert ben.get_issue("ISSUE-001").labels == ("old", "ann", "ben")


def test_many_records_are_one_edit_and_may_name_each_other(path: Path) -> None:
    manager = CoordinationManager(load(path))
    todos = [{"id": "A", "task": "a", "repo": "api"}, {"id": "B", "task": "b", "repo": "api", "blocked_by": ["A"]}]

    made = manager.create_all("todo", [*todos, {"task": "c", "repo": "api"}])

    assert [edited.record.id for edited in made] == ["A", "B", "TODO-001"]
    with pytest.raises(NotFound):
        manager.create_all("todo", [{"task": "d", "repo": "api"}, {"task": "e", "repo": "nowhere"}])
    assert [todo.id for todo in CoordinationManager(load(path)).list_todos()] == ["A", "B", "TODO-001"]
