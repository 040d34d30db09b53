"""Runs that go on: paused, resumed, cancelled."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import click
from rich_click import command

from coordination.cli.context import CliContext
from coordination.cli.runs.advice import say_next
from coordination.cli.runs.looking import opened, the_run
from coordination.cli.runs.summary import print_run
from coordination.cli.runs.waits import SERVE, Reminders, Wait, in_words
from coordination.cli.screen.shown import as_json_option
from coordination.runs.records import RunView, TodoState
from coordination.runs.service import Runs
from coordination.terminal import spelled
from coordination.text import counted


@command()
@the_run
@as_json_option
@click.pass_obj
def pause(call: CliContext, run: str, as_json: bool) -> None:
    """Start nothing new in RUN; what runs goes on to its end."""
    with opened(call) as runs:
        view = _steered(runs, run, runs.pause)
    _data(view, as_json)
    running = view.counts.get(TodoState.RUNNING, 0)
    still = f", {counted(running, 'todo')} still run{'s' * (running == 1)} to the end" if running else ""
    click.echo(f"run {view.run_id} is paused{still}; go on: coord resume {view.run_id}", err=True)


@command()
@the_run
@click.option("--as-it-was", is_flag=True, help="In the run's own order, where the file has another by now.")
@as_json_option
@click.pass_obj
def resume(call: CliContext, run: str, as_it_was: bool, as_json: bool) -> None:
    """Go on with the paused RUN."""
    with opened(call) as runs:
        ecosystem = call.document.ecosystem if call.has_file and not as_it_was else None
        view = _steered(runs, run, lambda run_id: runs.resume(run_id, ecosystem))
        unserved = runs.presence.unserved({t.repo for t in view.todos if not t.state.ended})
    _data(view, as_json)
    click.echo(f"run {view.run_id} goes on; look: coord watch {view.run_id}", err=True)
    for repo, words in unserved.items():
        click.echo(f"· it waits for {spelled(words)}\n  {SERVE.format(repo=repo)}", err=True)


@command()
@the_run
@click.option("--no-wait", is_flag=True, help="Return at once, while what runs is being stopped.")
@as_json_option
@click.pass_obj
def cancel(call: CliContext, run: str, no_wait: bool, as_json: bool) -> None:
    """End RUN now: nothing new starts, what runs is stopped; worktrees are kept. Returns when nothing of it runs any more."""
    with opened(call) as runs:
        view = _steered(runs, run, runs.cancel)
        if no_wait:
            _data(view, as_json)
            click.echo(f"run {view.run_id} is being cancelled; look: coord watch {view.run_id}", err=True)
            return
        view = _ended(runs, view.run_id)
        print_run(view, as_json=as_json)
        say_next(runs, view, call.state / "worktrees")


def _steered(runs: Runs, run: str, deed: Callable[[str], None]) -> RunView:
    run_id = runs.reader.resolve(run)
    deed(run_id)
    return runs.reader.read(run_id)


def _data(view: RunView, as_json: bool) -> None:
    if as_json:
        print_run(view, as_json=True)


def _ended(runs: Runs, run_id: str) -> RunView:
    """Once nothing of the cancelled run is alive; says meanwhile whom it waits for."""
    reminders = Reminders()
    for event in runs.follow(run_id):
        if event is None:
            now = datetime.now(UTC)
            for wait in reminders.due(_still_running(runs, run_id), now):
                click.echo(spelled(in_words(wait, now)), err=True)
            runs.look_after()
    return runs.reader.read(run_id)


def _still_running(runs: Runs, run_id: str) -> list[Wait]:
    there = {worker.id for worker in runs.presence.workers()}
    return [
        Wait(
            why=todo.id,
            words=f"{todo.id} is being stopped by {todo.worker}"
            if todo.worker in there
            else f"{todo.id} ran on {todo.worker}, which is gone: it is given up when its lease has run out",
        )
        for todo in runs.reader.read(run_id).todos
        if not todo.state.ended
    ]
