"""`export`: what the file declares, for a spreadsheet, a page or a program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
from pydantic import BaseModel
from rich_click import command

from coordination.cli.context import CliContext
from coordination.cli.desk.exporting import FORMATS, KINDS
from coordination.errors import CoordinationError
from coordination.models import presentable


@command()
@click.option("--format", "form", type=click.Choice(list(FORMATS)), required=True, help="csv, json or md (Markdown).")
@click.option("--kind", type=click.Choice([*KINDS, "all"]), default="all", show_default=True, help="Which records.")
@click.option("--output", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Write it to a file.")
@click.pass_obj
def export(call: CliContext, form: str, kind: str, output: Path | None) -> None:
    """Print the records that the file declares as CSV (lists joined by ;), JSON or Markdown tables by status."""
    desk = call.manager
    lists: Mapping[str, Callable[[], Sequence[BaseModel]]] = {
        "issues": desk.list_issues,
        "todos": desk.list_todos,
        "plans": desk.list_plans,
        "deps": desk.list_dependencies,
    }
    text = FORMATS[form](
        {name: [*map(presentable, records())] for name, records in lists.items() if kind in (name, "all")}
    )
    if output is None:
        click.echo(text.encode(), nl=False)
        return
    try:
        output.write_bytes(text.encode())
    except OSError as error:
        raise CoordinationError(f"{output} cannot be written: {error.strerror}", "name another file") from error
    click.echo(f"wrote {output}", err=True)
