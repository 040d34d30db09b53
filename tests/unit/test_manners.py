"""What the README says is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coordination import models
from coordination.cli.app import COMMANDS
from coordination.settings import Settings

README = (Path(__file__).parents[2] / "README.md").read_text()
WORDS = set(re.findall(r"[\w-]+", README))
SECTIONS = (
    models.Repo, models.Resource, models.ResourceNeed, models.Issue, models.Plan, models.Milestone, models.Todo,
    models.Dependency,
)  # fmt: skip


@pytest.mark.parametrize("command", [name for family in COMMANDS.values() for name in family])
def test_every_command_is_in_the_readme(command: str):
    assert re.search(rf"`(coord )?{command}[` ]", README), f"README.md does not name `{command}`"


@pytest.mark.parametrize("setting", Settings.model_fields)
def test_every_setting_is_in_the_readme(setting: str):
    assert f"`{setting}`" in README


@pytest.mark.parametrize("field", [name for record in SECTIONS for name in record.model_fields])
def test_every_field_of_the_file_is_in_the_readme(field: str):
    assert field in WORDS


def test_every_benchmark_that_the_readme_names_is_there():
    for name in re.findall(r"-m benchmarks\.(\w+)", README):
        assert (Path(__file__).parents[2] / "benchmarks" / f"{name}.py").exists(), name
