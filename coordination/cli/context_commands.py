"""`context`: values that todos share. Within a todo's command they are those of its run, and no option is
needed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich_click import RichGroup

from coordination.api import Context, Kept, Scope, TodoContext, texts
from coordination.cli.command import command
from coordination.cli.context import CliContext
from coordination.cli.options.values import duration, output_file, read_text
from coordination.cli.screen.output import Form, as_json_option, output_options, print_facts, print_json
from coordination.cli.screen.tables import print_none, print_table
from coordination.errors import CoordinationError, UsageError
from coordination.terminal import exact
from coordination.text import counted

SCOPES = click.Choice([scope.value for scope in Scope])


@click.group(cls=RichGroup, no_args_is_help=True)
def context() -> None:
    """Read and write values that todos share, as JSON by key: of the ecosystem, a plan, a run, a todo.

    A run sees the values of its plan, and the plan those of the ecosystem; a change in one does not affect
    outer ones. Within a todo's command no option is needed: reads begin at the todo, writes go to its run.
    """


as_regex = click.option(
    "--regex", is_flag=True, help="Read the pattern as a regular expression; it may match anywhere in a key."
)


def of_a_context(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose a context; pass the opened context to the command."""

    @click.option(
        "--scope", type=SCOPES, help="Use the values of the ecosystem, the plan, the run or the todo only."
    )
    @click.option("--plan", metavar="PLAN", default="", help=texts.CONTEXT_PLAN)
    @click.option("--run", metavar="RUN", default="", help=texts.CONTEXT_RUN)
    @click.option("--todo", metavar="TODO", default="", help="Use the context of this todo of the run.")
    @wraps(command)
    def with_context(*args: Any, scope: str | None, plan: str, run: str, todo: str, **rest: Any) -> Any:
        coord = click.get_current_context().obj.coord
        with coord.open_context(plan=plan, run=run, todo=todo) as store:
            return command(store, *args, scope=Scope(scope) if scope else None, **rest)

    return with_context


@command("context.get", group=context, name="get")
@click.argument("key")
@click.option("--default", metavar="JSON", help="Print this where there is no value (default: exit code 1).")
@as_json_option
@of_a_context
def get(
    store: Context | TodoContext, key: str, default: str | None, as_json: bool, scope: Scope | None
) -> None:
    """Text is printed as it is, other values as JSON; with --json everything is printed as JSON."""
    absent = object()
    otherwise = absent if default is None else _parsed(default, "--default")
    value = store.get(key, otherwise, scope=scope)
    if value is absent:
        raise CoordinationError(f"there is no value {key!r}", "list the values: coord context list")
    with exact(sys.stdout):
        shown = value if isinstance(value, str) and not as_json else json.dumps(value)
        sys.stdout.write(f"{shown}\n")  # click.echo would take colours out of the value


@command("context.set", group=context, name="set")
@click.argument("key")
@click.argument("value")
@click.option("--text", is_flag=True, help="Take VALUE as text, not as JSON.")
@click.option(
    "--ttl", metavar="DURATION", callback=duration, help="Keep it for so long (default: `cache_ttl`, 1h)."
)
@of_a_context
def set_(
    store: Context | TodoContext, key: str, value: str, text: bool, ttl: timedelta | None, scope: Scope | None
) -> None:
    """VALUE is JSON, `-` for standard input, or `@FILE` for the content of a file."""
    content = read_text(value.removeprefix("@")) if value == "-" or value.startswith("@") else value
    store.set(key, content if text else _parsed(content, "VALUE"), ttl, scope=scope)


@command(group=context, name="list")
@click.argument("pattern", default="*")
@as_regex
@of_a_context
@output_options(Kept)
def list_(store: Context | TodoContext, pattern: str, regex: bool, scope: Scope | None, form: Form) -> None:
    """List the visible keys, or those that match PATTERN (`build.*`)."""
    kept = list(store.list(".*" if regex and pattern == "*" else pattern, scope=scope, regex=regex))
    form.records(kept, lambda: _print(kept))


@command(group=context, name="delete")
@click.argument("names", metavar="KEY|PATTERN...", nargs=-1, required=True)
@click.option(
    "--ttl",
    metavar="DURATION",
    callback=duration,
    help="Hide outer values for so long (default: `cache_ttl`).",
)
@as_regex
@as_json_option
@of_a_context
def delete(
    store: Context | TodoContext,
    names: tuple[str, ...],
    ttl: timedelta | None,
    regex: bool,
    as_json: bool,
    scope: Scope | None,
) -> None:
    """Delete keys, or all that match a pattern (`build.*`). Values of outer contexts stay there, hidden
    from this one.
    """
    gone = store.delete(*names, scope=scope, ttl=ttl, regex=regex)
    if as_json:
        print_json({"deleted": gone})
    click.echo(f"{counted(gone, 'value')} deleted", err=True)


@command(group=context, name="export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), callback=output_file)
@click.pass_obj
def export_(call: CliContext, file: Path) -> None:
    """Write all contexts to FILE, as lines of JSON."""
    written = call.coord.export_context(file)
    click.echo(f"{file}: {counted(written, 'value')}", err=True)


@command(group=context, name="import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--keep", is_flag=True, help="Leave existing values as they are.")
@click.pass_obj
def import_(call: CliContext, file: Path, keep: bool) -> None:
    """Import a file of `export`; each value keeps its remaining time. A file with a mistake changes
    nothing.
    """
    put = call.coord.import_context(file, keep=keep)
    click.echo(f"{counted(put, 'value')} imported", err=True)


@command(group=context, name="stats")
@as_json_option
@click.pass_obj
def stats(call: CliContext, as_json: bool) -> None:
    """Show statistics: size, hits, evictions."""
    figures = call.coord.context_stats()
    (print_json if as_json else lambda found: print_facts(found.model_dump()))(figures)


def _parsed(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{what} is not JSON: {error}", "for text add --text, or quote it: '\"like this\"'"
        ) from error


def _print(values: list[Kept]) -> None:
    if not values:
        print_none("no value matches", "set one: coord context set KEY VALUE")
        return
    rows = [(one.key, one.scope, one.bytes, f"{one.expires_in_s:.0f} s") for one in values]
    print_table(("KEY", "SCOPE", "BYTES", "EXPIRES IN"), rows)
