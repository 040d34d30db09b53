"""How a command shows what it found: for reading, as JSON, or each record as a line by a template. Declared once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click
from pydantic import BaseModel

from coordination.cli.completing import format_fields
from coordination.cli.screen.output import print_json
from coordination.cli.screen.templates import Template
from coordination.errors import UsageError
from coordination.models import presentable

Command = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Form:
    as_json: bool
    template: Template | None = None

    def records(self, records: Sequence[BaseModel], read: Callable[[], None]) -> None:
        """Many: an array, a line for each, or what `read` prints for people."""
        records = [presentable(record) for record in records]
        if self.as_json:
            print_json(records)
        elif self.template is not None:
            click.echo("".join(f"{self.template.line(record)}\n" for record in records), nl=False)
        else:
            read()

    def record(self, record: BaseModel, more: Callable[[], Mapping[str, Any]], read: Callable[[], None]) -> None:
        """One: an object with what is computed beside its fields (`more`), a line, or what `read` prints for people."""
        record = presentable(record)
        if self.as_json:
            print_json({**dict(record), **more()})
        elif self.template is not None:
            click.echo(self.template.line(record))
        else:
            read()


def shown(kind: type[BaseModel]) -> Callable[[Command], Command]:
    """`--json` and `--format`, for a command that gets a `form`. `kind`: what it shows, whose fields a template may name."""
    fields = list(kind.model_fields)

    def with_options(command: Command) -> Command:
        @wraps(command)
        def with_form(*args: Any, as_json: bool, template: str | None, **rest: Any) -> Any:
            if as_json and template is not None:
                raise UsageError("--json and --format are two ways to show the same", "choose one of them")
            form = Form(as_json=as_json, template=None if template is None else Template(template, fields))
            return command(*args, form=form, **rest)

        return as_json_option(_template_option(fields)(with_form))

    return with_options


as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _template_option(fields: Sequence[str]) -> Callable[[Command], Command]:
    return click.option(
        "--format",
        "template",
        metavar="TEMPLATE",
        help="Print a line for each by its fields, e.g. '{id} {status}'.",
        shell_complete=format_fields(fields),
    )
