"""Declared fields of records become the values of the file, and the changes of an update."""

from __future__ import annotations

from datetime import timedelta

import pytest

from coordination.api.fields import DependencyFields, IssueFields, NewTodo, TodoFields, changes_of
from coordination.errors import UsageError
from coordination.models import Dependency, Issue, ResourceNeed, Todo, Validation

TODO = Todo(id="T", task="Do", repo="api", resources=(ResourceNeed(name="gpu"), ResourceNeed(name="db")))
DEPENDENCY = Dependency(
    id="D",
    consumer="api",
    provider="web",
    validation=Validation(command="true", timeout=timedelta(seconds=3)),
)


def test_fields_that_were_not_given_are_not_set() -> None:
    assert NewTodo(task="Do", repo="api", labels=("a",)).given() == {
        "task": "Do", "repo": "api", "labels": ["a"]
    }  # fmt: skip


def test_an_action_is_one_of_three() -> None:
    assert TodoFields(run="make").given() == {"action": "make"}
    assert TodoFields(manual=True).given() == {"action": {"type": "manual"}}
    assert TodoFields(manual=False).given() == {}
    with pytest.raises(UsageError):
        TodoFields(run="make", prompt="Do it").given()


def test_a_part_of_a_record_keeps_its_other_fields() -> None:
    changed = changes_of(DependencyFields(pattern="ok"), clear=["timeout"])(DEPENDENCY)
    assert changed == {"validation": {"command": "true", "expected_pattern": "ok"}}

    assert changes_of(DependencyFields(), clear=["command", "timeout"])(DEPENDENCY) == {"validation": None}


def test_a_field_is_emptied_by_its_name() -> None:
    issue = Issue(id="I", title="x", assignee="ann")
    assert changes_of(IssueFields(title="y"), clear=["assignee"])(issue) == {"title": "y", "assignee": None}
    assert changes_of(TodoFields(), clear=["run"])(TODO) == {"action": None}


def test_items_are_added_and_removed_by_their_names() -> None:
    changed = changes_of(TodoFields(), added={"resources": [{"name": "gpu", "amount": 2}]})(TODO)
    assert changed["resources"] == [{"name": "gpu", "amount": 2}, ResourceNeed(name="db")]
    assert changes_of(TodoFields(), removed={"resources": ["gpu", "db"]})(TODO) == {"resources": None}
    with pytest.raises(UsageError):
        changes_of(TodoFields(), removed={"resources": ["tpu"]})(TODO)
