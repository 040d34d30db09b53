"""`issue sync` and `export`: records of the file and other programs: forges, spreadsheets, pages."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from io import StringIO
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel
from pydantic_core import to_json

from coordination.api import IssueResult, IssueSyncReport, TodoInView, as_view
from coordination.cli.command import command
from coordination.cli.context import CliContext, despite_quiet
from coordination.cli.options.values import output_option
from coordination.cli.screen.output import has_parts, text_of
from coordination.cli.screen.tables import plain, print_none, print_table
from coordination.declared import Cell, Column
from coordination.errors import CoordinationError
from coordination.models import (
    Dependency,
    DependencyStatus,
    Issue,
    IssueStatus,
    Plan,
    PlanStatus,
    TodoStatus,
    presentable,
)
from coordination.states import spaced, tone_of, words_of
from coordination.text import counted, shortened

LONGEST = 60
"""Characters of a value that are shown; `--json` has all of them."""


def print_synchronised(report: IssueSyncReport) -> None:
    _print_results(report.results)
    _print_notes(report.results, report.not_pulled)


def _print_results(results: Sequence[IssueResult]) -> None:
    if not results:
        print_none("there is nothing to synchronise", "name a repository in `repos` of an issue; or: --pull")
        return
    names = ("ISSUE", "REPO", "FORGE", "DONE", "TO FORGE", "TO FILE")
    columns = [*(Column(name) for name in names), Column("TITLE", flexible=True)]
    print_table(columns, [_result_row(one) for one in results])


def _result_row(one: IssueResult) -> Sequence[object]:
    return (
        one.issue or "-",
        one.repo,
        one.forge or "-",
        Cell(spaced(one.action), tone_of(one.action)),
        ", ".join(one.to_forge) or "-",
        ", ".join(one.to_file) or "-",
        one.title,
    )


@despite_quiet()
def _print_notes(results: Sequence[IssueResult], not_pulled: int) -> None:
    for one in results:
        for conflict in one.conflicts:
            values = f"file {_quoted(conflict.file)}, forge {_quoted(conflict.forge)}"
            line = f"conflict: {one.issue}: {conflict.field}: {values}; kept: {conflict.kept}"
            click.echo(plain(line), err=True)
        if one.error:
            lines = one.error.replace("\n", "\n  ")
            click.echo(plain(f"error: {one.issue or one.repo}: {lines}"), err=True)
    if not_pulled:
        issues = counted(not_pulled, "open issue")
        click.echo(f"note: {issues} of the forge not in the file: coord issue sync --pull", err=True)


def _quoted(value: str) -> str:
    return f'"{shortened(" ".join(value.split()), LONGEST)}"'


Records = Mapping[str, Sequence[Any]]
"""Records by kind."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 (wide ones too)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of records in an export."""

    title: str
    model: type[BaseModel]
    statuses: type[StrEnum]
    columns: Mapping[str, str]
    """Columns of a Markdown page: heading → field."""


KINDS: Mapping[str, Kind] = {
    "issues": Kind(
        title="Issues",
        model=Issue,
        statuses=IssueStatus,
        columns={
            "Issue": "id",
            "Title": "title",
            "Priority": "priority",
            "Target": "target",
            "Assignee": "assignee",
            "Repositories": "repos",
            "Waits for": "dependencies",
            "Labels": "labels",
        },
    ),
    "todos": Kind(
        title="Todos",
        model=TodoInView,
        statuses=TodoStatus,
        columns={
            "Todo": "id",
            "Task": "task",
            "Repository": "repo",
            "Priority": "priority",
            "Plan": "plan",
            "Assignee": "assignee",
            "Waits for": "blocked_by",
            "Hours": "estimated_hours",
            "Run": "run_id",
            "Worker": "worker",
        },
    ),
    "plans": Kind(
        title="Plans",
        model=Plan,
        statuses=PlanStatus,
        columns={"Plan": "id", "Title": "title", "Target": "target", "Repositories": "repos"},
    ),
    "deps": Kind(
        title="Dependencies",
        model=Dependency,
        statuses=DependencyStatus,
        columns={
            "Dependency": "id",
            "Consumer": "consumer",
            "Provider": "provider",
            "Versions": "version_constraint",
            "Type": "type",
            "Notes": "notes",
        },
    ),
}


def as_json(records: Records) -> str:
    """Return one kind as an array, several as an object of arrays."""
    whole = records if len(records) > 1 else next(iter(records.values()))
    return to_json(whole, indent=2).decode() + "\n"


def as_csv(records: Records) -> str:
    """Return CSV (RFC 4180). Several kinds share one table: `kind` names the kind, and fields of other
    kinds are empty.
    """
    several = len(records) > 1
    fields = list(dict.fromkeys(field for kind in records for field in KINDS[kind].model.model_fields))
    out = StringIO()
    writer = csv.writer(out)
    writer.writerow(["kind", *fields] if several else fields)
    for kind, rows in records.items():
        for row in rows:
            cells = [_defused(_joined(getattr(row, field, None))) for field in fields]
            writer.writerow([kind, *cells] if several else cells)
    return out.getvalue()


def as_markdown(records: Records) -> str:
    """Return Markdown with a table for each status, in the order of a record's life."""
    return "\n".join(line for kind, rows in records.items() for line in _chapter(kind, rows)) + "\n"


FORMATS: Mapping[str, Callable[[Records], str]] = {"csv": as_csv, "json": as_json, "md": as_markdown}


def _joined(value: object) -> str:
    """Return a list joined by `;`: commas separate the columns."""
    if isinstance(value, tuple) and not any(map(has_parts, value)):
        return ";".join(map(text_of, value))
    return text_of(value) if value not in ({}, ()) else ""


def _defused(cell: str) -> str:
    """Quote a cell that begins like a formula, which a spreadsheet would execute."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _chapter(kind: str, records: Sequence[Any]) -> Iterator[str]:
    yield f"## {KINDS[kind].title}"
    yield ""
    if not records:
        yield "None."
        yield ""
    for status in KINDS[kind].statuses:
        rows = [record for record in records if record.status == status]
        if rows:
            yield f"### {words_of(status).capitalize()} ({len(rows)})"
            yield ""
            yield from _markdown_table(KINDS[kind].columns, rows)
            yield ""


def _markdown_table(columns: Mapping[str, str], records: Iterable[Any]) -> Iterator[str]:
    cells = [[_escaped(getattr(record, field)) for field in columns.values()] for record in records]
    kept = [i for i in range(len(columns)) if i == 0 or any(row[i] for row in cells)]
    names = list(columns)
    yield f"| {' | '.join(names[i] for i in kept)} |"
    yield f"|{' --- |' * len(kept)}"
    for row in cells:
        yield f"| {' | '.join(row[i] for i in kept)} |"


def _escaped(value: object) -> str:
    """Escape a cell: a `|` would end it, a `<` begin a tag, and an `@name` notify somebody."""
    text = ", ".join(map(text_of, value)) if isinstance(value, tuple) else text_of(value)
    return " ".join(plain(text).translate(_ESCAPED).split())


_ESCAPED = str.maketrans({**{sign: f"\\{sign}" for sign in "\\`*_[]<>|~#&"}, "@": "@\u200b"})


@command()
@click.option(
    "--format",
    "form",
    type=click.Choice(list(FORMATS)),
    required=True,
    help="Choose csv, json or md (Markdown).",
)
@click.option(
    "--kind",
    type=click.Choice([*KINDS, "all"]),
    default="all",
    show_default=True,
    help="Select the kinds of records.",
)
@output_option
@click.pass_obj
def export(call: CliContext, form: str, kind: str, output: Path | None) -> None:
    """Export the records of the file as CSV, JSON or Markdown. In CSV, lists are joined by semicolons;
    Markdown has a table for each status.
    """
    manager = call.coord.manager
    lists: Mapping[str, Callable[[], Sequence[BaseModel]]] = {
        "issues": manager.list_issues,
        "todos": lambda: [as_view(todo) for todo in manager.list_todos()],
        "plans": manager.list_plans,
        "deps": manager.list_dependencies,
    }
    text = FORMATS[form](
        {name: [*map(presentable, records())] for name, records in lists.items() if kind in (name, "all")}
    )
    if kind in ("todos", "all"):
        call.note_unknown_runs()
    if output is None:
        click.echo(text.encode(), nl=False)
        return
    try:
        output.write_bytes(text.encode())
    except OSError as error:
        raise CoordinationError(
            f"{output} cannot be written: {error.strerror}", "name another file"
        ) from error
    click.echo(f"wrote {output}", err=True)
