"""The file: written and checked.

`coord demo`: a small real ecosystem, and a real plan swept over it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich_click import command

from coordination.cli.context import CliContext
from coordination.cli.runs.sweep import carry_out
from coordination.cli.screen.output import as_json_option, print_json
from coordination.demo import create
from coordination.errors import CoordinationError, InvalidFile, Problem, UsageError
from coordination.models import FILE_NAME
from coordination.planner.graph import build
from coordination.runs.submission.submit import decide


@command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path))
def init(folder: Path) -> None:
    """Write DIR/ecosystem.yaml (here if not given) from the git repositories in DIR, with a plan to begin with."""
    from coordination.ecosystem.first_file import DEPTH, find_repos, first_file, write_first
    from coordination.text import counted

    repos, path = find_repos(folder), folder / FILE_NAME
    if not repos:
        raise UsageError(
            f"no git repository was found in {folder.resolve()}, nor in the folders in it, {DEPTH} levels deep",
            "clone or create one there (git init), or name the folder that has them: coord init DIR",
        )
    write_first(path, first_file(repos))
    click.echo(
        f"wrote {path} with {counted(len(repos), 'repository')}\n  next: edit it, then: coord validate", err=True
    )


@command()
@click.option("--strict", is_flag=True, help="Count warnings as errors: exit code 2, for CI.")
@as_json_option
@click.pass_obj
def validate(call: CliContext, strict: bool, as_json: bool) -> int:
    """Check the file. Exit code 2 when it cannot be used, or with --strict when anything in it is loose or cannot be executed."""
    if as_json:
        return _validate_as_json(call, strict)
    document = call.document
    warnings, refused = _warnings(call)
    for warning in warnings:
        click.echo(f"{'error' if strict else 'warning'}: {warning}", err=True)
    if refused:
        click.echo(f"these plans cannot be executed: {', '.join(refused)}", err=True)
    declared = document.ecosystem.coordination
    if declared.id is None and call.settings.redis_url:
        from coordination.ecosystem.first_file import new_id

        click.echo(
            f"note: to be told from other ecosystems on this Redis, add under coordination: id: {new_id()}", err=True
        )
    counts = {"repos": document.ecosystem.repos, "plans": declared.plans, "todos": declared.todos}
    words = ", ".join(f"{name} {len(found)}" for name, found in {**counts, "warnings": warnings}.items())
    wrong = strict and bool(warnings)
    click.echo(f"{document.path} is {'not ' if wrong else ''}valid: {words}", err=wrong)
    return InvalidFile.exit_code if wrong else 0


def _warnings(call: CliContext) -> tuple[list[Problem], tuple[str, ...]]:
    """What is loose in the file or cannot be executed, and the plans that a sweep would refuse."""
    from coordination.operations.executable import judge_executable

    verdict = judge_executable(call.document, call.settings)
    return [*call.document.warnings, *verdict.problems], verdict.refused_plans


def _validate_as_json(call: CliContext, strict: bool) -> int:
    problems: Sequence[Any] = ()
    warnings: Sequence[Any] = ()
    refused: Sequence[str] = ()
    try:
        warnings, refused = _warnings(call)
    except InvalidFile as error:
        problems = error.problems
    wrong = bool(problems or (strict and warnings))
    print_json(
        {
            "file": str(call.path),
            "valid": not wrong,
            "problems": [asdict(problem) for problem in problems],
            "warnings": [asdict(warning) for warning in warnings],
            "refused_plans": refused,
        }
    )
    return InvalidFile.exit_code if wrong else 0


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


PLAN = "PLAN-001"


@command()
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.pass_obj
def demo(call: CliContext, folder: Path | None) -> int:
    """Make six small git repositories in DIR (a temporary folder if not given) and raise their Python version.

    Six Python packages that depend on each other: the plan edits each one, runs its tests against the changed versions of
    those below it, and commits to a branch of its own.
    """
    path = create(folder or Path(tempfile.mkdtemp(prefix="coord-demo-")))
    click.echo(f"6 repositories and {path}", err=True)
    call.ecosystem = str(path)
    # The sample's todos say python3, which may be older than what coord itself runs on.
    path_before = os.environ.get("PATH", os.defpath)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), path_before])
    graph = build(call.document.ecosystem, PLAN)
    code = carry_out(call, graph, partial(decide, settings=call.settings))
    coord = "coord" if shutil.which("coord", path=path_before) else Path(sys.argv[0]).absolute()
    click.echo(f"\nnext: cd {path.parent}, and then, for example\n  {coord} show-run last", err=True)
    click.echo(f"  {coord} logs last TODO-012\n  git -C cli log --stat --all", err=True)
    return code
