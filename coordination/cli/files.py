"""The file: written and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich_click import command

from coordination.cli.context import Call
from coordination.cli.screen.output import print_json
from coordination.cli.screen.shown import as_json_option
from coordination.errors import CoordinationError, InvalidFile, PlanRefused, Problem
from coordination.models import FILE_NAME, PlanStatus


@command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path))
def init(folder: Path) -> None:
    """Write DIR/ecosystem.yaml (here if not given) from the git repositories in DIR, with a plan to begin with."""
    from coordination.ecosystem.first_file import first_file, write_first
    from coordination.ecosystem.scan import find_repos
    from coordination.phrases import counted

    repos, path = find_repos(folder), folder / FILE_NAME
    write_first(path, first_file(repos))
    click.echo(
        f"wrote {path} with {counted(len(repos), 'repository')}\n  next: edit it, then: coord validate", err=True
    )


@command()
@as_json_option
@click.pass_obj
def validate(call: Call, as_json: bool) -> None:
    """Check the file. Exit code 2 when it cannot be used; what is only loose in it is a warning."""
    if as_json:
        _validate_as_json(call)
        return
    document = call.document
    warnings = [*document.warnings, *_refused_plans(call)]
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    declared = document.ecosystem.coordination
    counts = {"repos": document.ecosystem.repos, "plans": declared.plans, "todos": declared.todos}
    words = ", ".join(f"{name} {len(found)}" for name, found in {**counts, "warnings": warnings}.items())
    click.echo(f"{document.path} is valid: {words}")


def _refused_plans(call: Call) -> list[Problem]:
    """What a sweep of each plan would refuse: a cycle, an unknown blocker, an undeclared repository."""
    from coordination.planner.graph import build

    found = []
    for plan in call.document.ecosystem.coordination.plans:
        if plan.status not in (PlanStatus.CANCELLED, PlanStatus.ON_HOLD):
            try:
                build(call.document.ecosystem, plan.id)
            except PlanRefused as refused:
                found.append(Problem(file=str(call.path), line=0, where=plan.id, message=refused.message))
    return found


def _validate_as_json(call: Call) -> None:
    problems: Sequence[Any] = ()
    warnings: Sequence[Any] = ()
    try:
        warnings = [*call.document.warnings, *_refused_plans(call)]
    except InvalidFile as error:
        problems = error.problems
    print_json(
        {
            "file": str(call.path),
            "valid": not problems,
            "problems": [asdict(problem) for problem in problems],
            "warnings": [asdict(warning) for warning in warnings],
        }
    )
    if problems:
        click.get_current_context().exit(InvalidFile.exit_code)


@command()
@click.option("--output", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Write it to a file.")
def schema(output: Path | None) -> None:
    """Print the JSON Schema of ecosystem.yaml, so that editors complete and check it while you type."""
    import json

    from coordination.ecosystem.schema import json_schema

    if output is None:
        print_json(json_schema())
        return
    try:
        output.write_text(json.dumps(json_schema(), indent=2) + "\n")
    except OSError as error:
        raise CoordinationError(f"{output} cannot be written: {error.strerror}", "name another file") from error
    click.echo(
        f"wrote {output}\n  first line of ecosystem.yaml, for editors: # yaml-language-server: $schema={output}",
        err=True,
    )
