"""`context get` and `context set`, and output of the other commands for values that todos share."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from typing import Any

import click

from coordination.api.contexts import Copied, Deleted, Place
from coordination.cli.context import CliContext
from coordination.cli.options.values import read_text
from coordination.cli.screen.output import as_json_option, print_facts
from coordination.errors import CoordinationError, UsageError
from coordination.frozen import FrozenModel
from coordination.terminal import exact
from coordination.text import counted


@click.option("--default", metavar="JSON", help="Print this where there is no value (default: exit code 1).")
@as_json_option
def get(call: CliContext, values: dict[str, Any], *, default: str | None, as_json: bool) -> None:
    """In a todo's command no option is needed: it reads the nearest value that the todo sees.

    Text is printed as it is, other values as JSON; with --json everything is printed as JSON.
    """
    otherwise = None if default is None else _parsed(default, "--default")
    found = call.coord.context.get(values.pop("key"), _place(values))
    if not found.found and default is None:
        raise CoordinationError(f"there is no value {found.key!r}", "list the values: coord context list")
    value = found.value if found.found else otherwise
    with exact(sys.stdout):
        shown = value if isinstance(value, str) and not as_json else json.dumps(value)
        sys.stdout.write(f"{shown}\n")  # click.echo would take colours out of the value


@click.option("--text", is_flag=True, help="Take VALUE as text, not as JSON.")
def set_(call: CliContext, values: dict[str, Any], *, text: bool) -> None:
    """`-` reads it from standard input, `@FILE` from a file. In a todo's command no option is needed: the
    value is set in the context of the run.
    """
    key, value, ttl = values.pop("key"), values.pop("value"), values.pop("ttl", None)
    content = read_text(value.removeprefix("@")) if value == "-" or value.startswith("@") else value
    call.coord.context.set(key, content if text else _parsed(content, "VALUE"), _place(values), ttl=ttl)


def _place(values: dict[str, Any]) -> Place:
    return Place(**{one.name: values[one.name] for one in fields(Place) if one.name in values})


def _parsed(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{what} is not JSON: {error}", "for text add --text, or quote it: '\"like this\"'"
        ) from error


def print_deleted(done: Deleted) -> None:
    click.echo(f"{counted(done.deleted, 'value')} deleted", err=True)


def print_exported(done: Copied) -> None:
    click.echo(f"{done.file}: {counted(done.values, 'value')}", err=True)


def print_imported(done: Copied) -> None:
    click.echo(f"{counted(done.values, 'value')} imported", err=True)


def print_stats(figures: FrozenModel) -> None:
    print_facts(figures.model_dump())
