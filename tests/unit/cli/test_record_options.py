"""The declared fields fill all fields of records but those that people do not type."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from coordination.api import fields
from coordination.api.fields import RecordFields
from coordination.models import Dependency, Issue, Milestone, Plan, Todo, Validation

KEPT_BY_COORD = {"created", "updated"}
KINDS = [
    (fields.NewIssue, Issue, {"metadata", "forge"}),
    (fields.NewTodo, Todo, {"compensate", "retry", "env", "workspace", "needs_paths", "cache", "sandbox"}),
    (fields.NewPlan, Plan, {"milestones", "retry", "budget", "land", "qa"}),
    (fields.MilestoneFields, Milestone, {"id", "description", "status"}),
    (fields.NewDependency, Dependency, {"validation"}),
]


def set_by(kind: type[RecordFields]) -> list[str]:
    """Return the fields of the record that are set, such as `validation.command`."""
    return [one.sets or name for name, one in kind.options().items()]


@pytest.mark.parametrize(("kind", "model", "from_file_only"), KINDS)
def test_every_field_has_an_option_or_is_written_in_a_file(
    kind: type[RecordFields], model: type[BaseModel], from_file_only: set[str]
) -> None:
    filled = {name for name in set_by(kind) if "." not in name}

    assert filled | from_file_only | KEPT_BY_COORD >= set(model.model_fields)
    assert filled <= set(model.model_fields)
    assert not filled & from_file_only


def test_a_validation_has_an_option_for_each_of_its_fields() -> None:
    names = [name.partition(".") for name in set_by(fields.NewDependency)]
    assert {inner for part, _, inner in names if part == "validation"} == set(Validation.model_fields)


@pytest.mark.parametrize(("kind", "model", "_"), KINDS)
def test_no_option_is_declared_twice(kind: type[RecordFields], model: type[BaseModel], _: set[str]) -> None:
    spelled = [one.flag or f"--{name.replace('_', '-')}" for name, one in kind.options().items()]
    assert len(set(spelled)) == len(spelled)
