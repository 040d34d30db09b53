"""The options of the commands fill all fields of records but those that people do not type."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from pydantic import BaseModel

from coordination.cli.options import fields
from coordination.cli.options.fields import Field
from coordination.models import Dependency, Issue, Milestone, Plan, Todo, Validation

KEPT_BY_COORD = {"created", "updated"}
KINDS = [
    (fields.ISSUE, Issue, {"metadata", "forge"}),
    (fields.TODO, Todo, {"compensate", "retry", "env", "workspace", "needs_paths", "cache", "sandbox"}),
    (fields.PLAN, Plan, {"milestones", "retry", "land", "qa"}),
    (fields.MILESTONE, Milestone, {"id", "description", "status"}),
    (fields.DEPENDENCY, Dependency, {"validation"}),
]


@pytest.mark.parametrize(("options", "model", "from_file_only"), KINDS)
def test_every_field_has_an_option_or_is_written_in_a_file(
    options: Sequence[Field], model: type[BaseModel], from_file_only: set[str]
) -> None:
    filled = {option.field for option in options if not option.part}

    assert filled | from_file_only | KEPT_BY_COORD >= set(model.model_fields)
    assert filled <= set(model.model_fields)
    assert not filled & from_file_only


def test_a_validation_has_an_option_for_each_of_its_fields() -> None:
    assert {option.inner for option in fields.DEPENDENCY if option.part == "validation"} == set(
        Validation.model_fields
    )


@pytest.mark.parametrize(("options", "model", "_"), KINDS)
def test_no_option_is_declared_twice(options: Sequence[Field], model: type[BaseModel], _: set[str]) -> None:
    assert len({option.option for option in options}) == len(options)
