"""`export-run` and `import-run`: a run as one JSON document."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich_click import command

from coordination.api import RunStatus
from coordination.cli.completion import run_ids
from coordination.cli.context import CliContext
from coordination.cli.following.summary import print_run
from coordination.cli.options.values import output_file, size
from coordination.cli.screen.output import as_json_option


@command()
@click.argument("run", shell_complete=run_ids)
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False), callback=output_file)
@click.option("--look", is_flag=True, help="Export a live run; the document cannot be imported.")
@click.pass_obj
def export_run(call: CliContext, run: str, file: Path | None, look: bool) -> None:
    """Export all records of RUN as a JSON document to FILE (compressed if its name ends in .gz), or print it.

    For another Redis (`import-run`) it must have ended, or be paused with no running todo.
    """
    found = call.coord.runs.get(run)
    if file is None:
        sys.stdout.writelines(found.document(to_import=not look))
    else:
        found.export(file, look=look)
        click.echo(f"wrote run {found.id} to {file}, {file.stat().st_size:,} bytes", err=True)
    _warn_of_copy(found.status(), look=look)


def _warn_of_copy(status: RunStatus, *, look: bool) -> None:
    if status is RunStatus.PAUSED and not look:
        click.echo("the run stays paused here: once it continues elsewhere, do not resume it here", err=True)


@command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--max-size",
    metavar="SIZE",
    default="128MiB",
    callback=size,
    help="Refuse a document that is larger when unpacked (default: 128MiB).",
)
@as_json_option
@click.pass_obj
def import_run(call: CliContext, file: Path, max_size: int, as_json: bool) -> None:
    """Import the run in FILE, a document of `export-run`: whole or not at all.

    A paused run continues with `resume`: on its hosts, or from the commits in the document.
    """
    run = call.coord.runs.import_(file, max_bytes=max_size)
    run_id, view = run.id, run.view()
    if as_json:
        print_run(view, as_json=True)
    then = (
        f"continue it: coord resume {run_id}"
        if view.status is RunStatus.PAUSED
        else f"look: coord show-run {run_id}"
    )
    click.echo(f"imported run {run_id} of {view.plan_id}, {view.status}; {then}", err=True)
