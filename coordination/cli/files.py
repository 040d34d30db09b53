"""`init`, `validate`, `schema`: the file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from coordination.api.machine import check, file_schema, new_ecosystem_id, write_first_file
from coordination.cli.command import command
from coordination.cli.context import CliContext, despite_quiet
from coordination.cli.options.values import output_option
from coordination.cli.screen.output import as_json_option, print_json
from coordination.errors import CoordinationError, InvalidFile
from coordination.text import counted


@command("machine.write_first_file")
@click.argument(
    "folder", metavar="[DIR]", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
def init(folder: Path) -> None:
    """DIR is the present folder by default."""
    path, repos = write_first_file(folder)
    click.echo(
        f"wrote {path} with {counted(repos, 'repository')}\n  next: edit it, then: coord validate", err=True
    )


@command()
@click.option("--strict", is_flag=True, help="Treat warnings as errors: exit code 2, for CI.")
@as_json_option
@click.pass_obj
def validate(call: CliContext, strict: bool, as_json: bool) -> int:
    """Check the file; print every problem with its line. Exit code 2: it cannot be used; with --strict also:
    it has warnings.
    """
    if as_json:
        return _validate_as_json(call, strict)
    document = call.coord.document
    found = check(call.coord)
    warnings, refused = found.warnings, found.refused_plans
    for warning in warnings:
        with despite_quiet():
            click.echo(f"{'error' if strict else 'warning'}: {warning}", err=True)
    if refused:
        with despite_quiet():
            click.echo(f"these plans cannot be executed: {', '.join(refused)}", err=True)
    declared = document.ecosystem.coordination
    if declared.id is None and call.coord.settings.redis_url:
        click.echo(
            "note: to protect this ecosystem from others on this Redis, add under coordination: id: "
            f"{new_ecosystem_id()}",
            err=True,
        )
    counts = {"repos": document.ecosystem.repos, "plans": declared.plans, "todos": declared.todos}
    text = ", ".join(f"{name} {len(found)}" for name, found in {**counts, "warnings": warnings}.items())
    wrong = strict and bool(warnings)
    click.echo(f"{document.path} is {'not ' if wrong else ''}valid: {text}", err=wrong)
    if wrong:
        click.echo("  next: correct what the warnings name, then: coord validate --strict", err=True)
    return InvalidFile.exit_code if wrong else 0


def _validate_as_json(call: CliContext, strict: bool) -> int:
    problems: Sequence[Any] = ()
    warnings: Sequence[Any] = ()
    refused: Sequence[str] = ()
    try:
        found = check(call.coord)
        warnings, refused = found.warnings, found.refused_plans
    except InvalidFile as error:
        problems = error.problems
    wrong = bool(problems or (strict and warnings))
    print_json(
        {
            "file": str(call.coord.path),
            "valid": not wrong,
            "problems": [asdict(problem) for problem in problems],
            "warnings": [asdict(warning) for warning in warnings],
            "refused_plans": refused,
        }
    )
    return InvalidFile.exit_code if wrong else 0


@command("machine.file_schema")
@output_option
def schema(output: Path | None) -> None:
    if output is None:
        print_json(file_schema())
        return
    try:
        output.write_text(json.dumps(file_schema(), indent=2) + "\n")
    except OSError as error:
        raise CoordinationError(
            f"{output} cannot be written: {error.strerror}", "name another file"
        ) from error
    click.echo(
        f"wrote {output}\n  first line of ecosystem.yaml, for editors: # yaml-language-server: "
        f"$schema={output}",
        err=True,
    )
