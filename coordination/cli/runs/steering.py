"""Runs that go on: paused, resumed, cancelled.

`approve` and `reject`: what a person decides at a gate, or about a manual todo.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime

import click
from rich_click import command

from coordination.cli.completing import asking_ids, run_ids
from coordination.cli.context import CliContext
from coordination.cli.runs.advice import say_next
from coordination.cli.runs.looking import opened, the_run
from coordination.cli.runs.summary import SERVE, Reminders, Wait, in_words, print_run
from coordination.cli.screen.output import as_json_option, print_json
from coordination.planner.gates import DONE
from coordination.runs.approvals import Decision
from coordination.runs.records import RunStatus, RunView, TodoState
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


the_todo = click.argument("todo", shell_complete=asking_ids)
in_run = click.option(
    "--run", metavar="RUN", shell_complete=run_ids, help="Only in this run; needed where more than one asks."
)
comment = click.option("--comment", metavar="TEXT", default="", help="Why: it is kept with the todo.")


@command()
@the_todo
@in_run
@comment
@as_json_option
@click.pass_obj
def approve(call: CliContext, todo: str, run: str | None, comment: str, as_json: bool) -> None:
    """Let TODO begin, at whose gate a run waits; a milestone is reached by that, and a manual todo done."""
    _decide(call, Runs.approve, todo, run, comment, as_json=as_json)


@command()
@the_todo
@in_run
@comment
@as_json_option
@click.pass_obj
def reject(call: CliContext, todo: str, run: str | None, comment: str, as_json: bool) -> None:
    """Do not let TODO begin: it has failed, is not tried again, and its run does what its on_failure says."""
    _decide(call, Runs.reject, todo, run, comment, as_json=as_json)


def _decide(
    call: CliContext,
    deed: Callable[[Runs, str, str | None, str], Decision],
    todo: str,
    run: str | None,
    comment: str,
    *,
    as_json: bool,
) -> None:
    with opened(call) as runs:
        decision = deed(runs, todo, runs.reader.resolve(run) if run else None, comment)
    if as_json:
        print_json(asdict(decision))
    click.echo(f"{todo} is {DONE[decision.verdict]}; {_then(decision.run_id, decision.run_status)}", err=True)


def _then(run_id: str, status: RunStatus) -> str:
    if status is RunStatus.PAUSED:
        return f"run {run_id} is paused; go on with it: coord resume {run_id}"
    if status is RunStatus.ROLLING_BACK:
        return f"run {run_id} is rolled back; look: coord watch {run_id}"
    if status.ended:
        return f"run {run_id} has ended: {status}"
    return f"run {run_id} goes on"
