"""`approve` and `reject`: what a person decides at a gate, or about a manual todo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import click
from rich_click import command

from coordination.cli.completing import asking_ids, run_ids
from coordination.cli.context import CliContext
from coordination.cli.runs.looking import opened
from coordination.cli.screen.output import print_json
from coordination.cli.screen.shown import as_json_option
from coordination.planner.gates import DONE
from coordination.runs.approvals import Decision
from coordination.runs.records import RunStatus
from coordination.runs.service import Runs

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
