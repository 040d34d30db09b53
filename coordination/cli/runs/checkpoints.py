"""`checkpoint create | list | restore`: names for what a run has done so far, and the way back there."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click
from rich_click import RichGroup

from coordination.cli.completing import run_ids
from coordination.cli.context import CliContext
from coordination.cli.runs.following import Following
from coordination.cli.runs.looking import opened
from coordination.cli.runs.retry import take_up_again
from coordination.cli.runs.summary import SOME_FAILED, print_run
from coordination.cli.runs.sweep import record
from coordination.cli.screen import times
from coordination.cli.screen.output import print_json
from coordination.cli.screen.shown import as_json_option
from coordination.cli.screen.tables import print_table
from coordination.runs.records import RunStatus
from coordination.text import counted, listed

the_run = click.argument("run", shell_complete=run_ids)


@click.group(cls=RichGroup, no_args_is_help=True)
def checkpoint() -> None:
    """Name what a run has done so far, and come back to it."""


@checkpoint.command("create")
@the_run
@click.argument("name")
@as_json_option
@click.pass_obj
def create(call: CliContext, run: str, name: str, as_json: bool) -> None:
    """Record under NAME which todos of RUN have succeeded, whether it goes on or has ended."""
    with opened(call) as runs:
        made = runs.create_checkpoint(runs.reader.resolve(run), name)
    if as_json:
        print_json(asdict(made))
    else:
        click.echo(
            f"checkpoint {name} of run {made.run_id}: {counted(len(made.succeeded), 'todo')} succeeded", err=True
        )


@checkpoint.command("list")
@the_run
@as_json_option
@click.pass_obj
def list_(call: CliContext, run: str, as_json: bool) -> None:
    """List the checkpoints of RUN, the oldest first."""
    with opened(call) as runs:
        found = runs.checkpoints(runs.reader.resolve(run))
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        columns = ("name", times.heading("at"), "by", "succeeded")
        print_table(columns, [(one.name, times.shown(one.at), one.by, len(one.succeeded)) for one in found])


@checkpoint.command("restore")
@the_run
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Only say what would be undone.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
@click.pass_obj
def restore(call: CliContext, run: str, name: str, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Undo what RUN has begun since the checkpoint NAME, in reverse order, then run that again, and what was left.

    What runs is stopped first. Interrupted, it goes on where it is asked for again. Exits as `sweep` does; 3 also where something
    could not be undone.
    """
    with opened(call) as runs:
        run_id = runs.reader.resolve(run)
        found = runs.undone_by_restore(run_id, name)
        if dry_run and as_json:
            print_json({"run_id": run_id, "name": name, "todos": found.todos, "helpless": found.helpless})
            return 0
        click.echo(f"since checkpoint {name}, run {run_id} has begun: {listed(found.todos) or 'nothing'}", err=True)
        if found.helpless:
            click.echo(f"  nothing undoes {listed(found.helpless)}", err=True)
        if dry_run:
            return 0
        if found.todos and not (
            yes or not sys.stdin.isatty() or click.confirm("undo that, and run it again?", err=True)
        ):
            return 1
        if call.has_file:
            call.local.ensure_worker()
        since = runs.last_event(run_id)
        runs.restore(run_id, name)
        ended = runs.read(run_id)
        if not ended.status.ended:
            ended = Following(runs, run_id, since).until_the_end()
        record(call, runs, run_id)
        if ended.status is RunStatus.ROLLBACK_FAILED:
            print_run(ended, as_json=as_json)
            click.echo(
                f"not all could be undone; mend it, then again: coord checkpoint restore {run_id} {name}", err=True
            )
            return SOME_FAILED
        if found.todos or ended.rollback:
            click.echo(f"coord/{run_id}, its branch, still holds what was undone: merge the next run's", err=True)
        return take_up_again(call, runs, run_id, as_json=as_json)
