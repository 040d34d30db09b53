"""The dependencies between repositories: listed, created, changed, deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich_click import command

from coordination.cli.completing import dependency_ids
from coordination.cli.context import CliContext
from coordination.cli.desk.changing import creates, deletes, updates
from coordination.cli.desk.listing import print_dependencies
from coordination.cli.options.fields import DEPENDENCY
from coordination.cli.options.filling import Changes
from coordination.cli.options.filters import by_name, by_word
from coordination.cli.screen.shown import Form, shown
from coordination.models import Dependency, DependencyStatus, DependencyType

if TYPE_CHECKING:
    from coordination.tracker.manager import CoordinationManager
    from coordination.tracker.records import Edited, Removed


@command()
@by_name("--consumer", "Only what this repository needs.")
@by_name("--provider", "Only what this repository provides.")
@by_word("--type", DependencyType)
@by_word("--status", DependencyStatus)
@shown(Dependency)
@click.pass_obj
def list_deps(call: CliContext, /, form: Form, **filters: Any) -> None:
    """List the dependencies. Filters add up."""
    dependencies = call.manager.list_dependencies(**filters)
    form.records(dependencies, lambda: print_dependencies(dependencies))


@creates(DEPENDENCY)
def create_dep(desk: CoordinationManager, records: Sequence[Mapping[str, Any]]) -> Sequence[Edited]:
    """Create a dependency of one repository on another; prints its id."""
    return desk.create_all("dependency", records)


@updates("DEP", DEPENDENCY, dependency_ids)
def update_dep(desk: CoordinationManager, dependency: str, changes: Changes) -> Edited:
    """Change fields of DEP; an empty value clears one (--constraint '')."""
    return desk.update_dependency(dependency, changes)


@deletes("DEP", dependency_ids)
def delete_dep(desk: CoordinationManager, dependency: str, cascade: bool) -> Removed:
    """Delete DEP."""
    return desk.delete_dependency(dependency, cascade=cascade)
