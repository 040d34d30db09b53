"""`complete-todo`: a person, or whoever did it, says that a todo is done."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
from rich_click import command

from coordination.cli.completing import todo_ids
from coordination.cli.context import CliContext
from coordination.cli.desk.happened import say_updated
from coordination.cli.options.values import hours as hours_of
from coordination.cli.screen.output import print_json
from coordination.cli.screen.shown import as_json_option
from coordination.errors import Unreachable, UsageError

if TYPE_CHECKING:
    from coordination.runs.service import Runs


def _hours(ctx: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    return None if text is None else hours_of(text)


@command()
@click.argument("todo", shell_complete=todo_ids)
@click.option("--hours", metavar="HOURS", callback=_hours, help="How long it took: 2h, 90m or 1.5.")
@click.option("--run", metavar="RUN", help="Only in this run; needed where more than one waits for it.")
@as_json_option
@click.pass_obj
def complete_todo(call: CliContext, todo: str, hours: float | None, run: str | None, as_json: bool) -> None:
    """Say that TODO is done: a run that waits for it goes on, else it is completed in the file."""
    from coordination.api import done

    if run is not None and hours is not None:
        raise UsageError("--run and --hours exclude each other", "hours stand in the file: leave --run out")
    if run is not None or not call.has_file:
        _in_run(call, todo, run, as_json=as_json)
        return
    with _running(call, todo) as runs:
        completed = done.complete_todo(call.manager, runs, todo, hours)
    if completed.edited is not None:
        say_updated(completed.edited, what=f"completed {todo}", as_json=as_json)
    if completed.run_id is not None:
        _say_goes_on(todo, completed.run_id, as_json=as_json and completed.edited is None)


def _in_run(call: CliContext, todo: str, run: str | None, *, as_json: bool) -> None:
    from coordination.cli.runs.looking import opened

    with opened(call) as runs:
        run_id = runs.complete(todo, runs.reader.resolve(run) if run else None)
    _say_goes_on(todo, run_id, as_json=as_json)


def _say_goes_on(todo: str, run_id: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"todo": todo, "run_id": run_id})
    click.echo(f"{todo} is done; run {run_id} goes on", err=True)


@contextlib.contextmanager
def _running(call: CliContext, todo: str) -> Iterator[Runs | None]:
    """The runs, where Redis is there: nothing is started to look at what cannot be there then."""
    url = call.running_redis()
    if url is None:
        yield None
        return
    from coordination.backend.client import reaching
    from coordination.runs.service import Runs

    try:
        with reaching(url):
            yield Runs(url, call.settings)
    except Unreachable as error:
        in_file = f"or only in the file: coord update-todo {todo} --status completed"
        raise type(error)(error.message, f"{error.hint}; {in_file}") from error
