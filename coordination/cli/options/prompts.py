"""What is missing is asked for on a terminal; elsewhere it is refused, so that no script ever waits for an answer."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import click

from coordination.cli.options.fields import Field
from coordination.errors import UsageError
from coordination.phrases import listed


def on_a_terminal() -> bool:
    """Whether somebody reads the questions, and can answer."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def ask_for_missing(record: dict[str, Any], fields: Iterable[Field]) -> None:
    """Fill in what a record cannot do without; raises UsageError with the options where nobody can be asked."""
    missing = [field for field in fields if field.required and field.field not in record]
    if missing and not on_a_terminal():
        options = " and ".join(field.option for field in missing)
        raise UsageError(f"{options} {'is' if len(missing) == 1 else 'are'} missing", _example(missing))
    for field in missing:
        record[field.field] = click.prompt(_question(field), err=True)


def _question(field: Field) -> str:
    """With the names that there are to choose from, where the file declares some."""
    name, ctx = field.key.capitalize(), click.get_current_context()
    known = [item.value for item in field.complete(ctx, ctx.command.params[0], "")] if field.complete else []
    return f"{name} ({listed(known)})" if known else name


def _example(missing: Iterable[Field]) -> str:
    words = " ".join(f"{field.option} {field.metavar}" for field in missing)
    return f"{click.get_current_context().command_path} {words}; or --from-file FILE"
