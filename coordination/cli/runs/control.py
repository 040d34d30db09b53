"""`pause`, `resume`, `cancel`; `approve`, `answer` and `reject`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from coordination.api import DONE, LAST, RunStatus, RunView, TodoState, texts
from coordination.cli.context import CliContext, confirm, on_a_terminal, yes_option
from coordination.cli.following.follow import print_advice
from coordination.cli.following.summary import SERVE, Reminders, Wait, format_wait, print_run
from coordination.cli.screen.output import as_json_option, print_json
from coordination.models import Verdict
from coordination.terminal import spelled
from coordination.text import counted

if TYPE_CHECKING:
    from coordination.api import Decision, Subject
    from coordination.api.run import Run


@as_json_option
def pause(call: CliContext, values: Mapping[str, Any], *, as_json: bool) -> None:
    view = call.coord.runs.get(values.get("run", LAST)).pause().view()
    _print_data(view, as_json)
    running = view.counts.get(TodoState.RUNNING, 0)
    still = f", {counted(running, 'todo')} still run{'s' * (running == 1)} to the end" if running else ""
    click.echo(f"run {view.run_id} is paused{still}; continue it: coord run resume {view.run_id}", err=True)


@as_json_option
def resume(call: CliContext, values: Mapping[str, Any], *, as_json: bool) -> None:
    target = call.coord.runs.get(values.get("run", LAST))
    target.resume(as_it_was=values.get("as_it_was", False))
    view = target.view()
    unserved = target.unserved(view)
    _print_data(view, as_json)
    click.echo(f"run {view.run_id} continues; follow it: coord watch {view.run_id}", err=True)
    for repo, text in unserved.items():
        click.echo(f"· it waits for {spelled(text)}\n  {SERVE.format(repo=repo)}", err=True)


@click.option("--no-wait", is_flag=True, help="Return at once, while todos are being stopped.")
@as_json_option
def cancel(call: CliContext, values: Mapping[str, Any], *, no_wait: bool, as_json: bool) -> None:
    """Worktrees stay. The command returns when nothing of the run is executed any more."""
    target = call.coord.runs.get(values.get("run", LAST)).cancel()
    if no_wait:
        _print_data(target.view(), as_json)
        click.echo(f"run {target.id} is being cancelled; follow it: coord watch {target.id}", err=True)
        return
    view = _await_end(target)
    print_run(view, as_json=as_json)
    print_advice(target, view, call.coord.state / "worktrees")


def _print_data(view: RunView, as_json: bool) -> None:
    if as_json:
        print_run(view, as_json=True)


def _await_end(run: Run) -> RunView:
    """Wait until nothing of the cancelled run is alive; name meanwhile the workers that it waits for."""
    reminders = Reminders()
    for event in run.follow():
        if event is None:
            now = datetime.now(UTC)
            for wait in reminders.due(_still_running(run), now):
                click.echo(spelled(format_wait(wait, now)), err=True)
            run.maintain()
    return run.view()


def _still_running(run: Run) -> list[Wait]:
    there = run.workers()
    return [
        Wait(
            why=todo.id,
            text=f"{todo.id} is being stopped by {todo.worker}"
            if todo.worker in there
            else f"{todo.id} ran on {todo.worker}, which is gone: it ends when its lease expires",
        )
        for todo in run.view().todos
        if not todo.state.ended
    ]


@click.option("--dry-run", is_flag=True, help=texts.REVIEW)
@yes_option
@as_json_option
def approve(call: CliContext, values: Mapping[str, Any], *, dry_run: bool, yes: bool, as_json: bool) -> None:
    todo = values["todo"]
    run_id, subject = call.coord.runs.review(todo, values.get("run"))
    for line in subject.lines if subject else ():
        click.echo(line, err=True)
    if dry_run:
        if as_json:
            print_json(subject and asdict(subject))
        elif subject is None:
            click.echo("an approval is not signed: this user has no identity (coord identity init)", err=True)
        return
    if subject and on_a_terminal():
        confirm(f"Approve {todo}?", yes=yes)
    _decide(call, Verdict.APPROVE, {**values, "run": run_id}, subject, as_json=as_json)


@as_json_option
def answer(call: CliContext, values: Mapping[str, Any], *, as_json: bool) -> None:
    given = {"todo": values["todo"], "run": values.get("run"), "comment": values["text"]}
    decision = call.coord.runs.decide(Verdict.APPROVE, **given, is_answer=True)
    _report(decision, "answered", as_json=as_json)


@as_json_option
def reject(call: CliContext, values: Mapping[str, Any], *, as_json: bool) -> None:
    _decide(call, Verdict.REJECT, values, as_json=as_json)


def _decide(
    call: CliContext,
    verdict: Verdict,
    values: Mapping[str, Any],
    subject: Subject | None = None,
    *,
    as_json: bool,
) -> None:
    decision = call.coord.runs.decide(verdict, **values, reviewed=subject)
    _report(decision, DONE[decision.verdict], as_json=as_json)


def _report(decision: Decision, done: str, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(decision))
    click.echo(f"{decision.todo} is {done}; {_then(decision.run_id, decision.run_status)}", err=True)


def _then(run_id: str, status: RunStatus) -> str:
    if status is RunStatus.PAUSED:
        return f"run {run_id} is paused; continue it: coord run resume {run_id}"
    if status is RunStatus.ROLLING_BACK:
        return f"run {run_id} is being rolled back; follow it: coord watch {run_id}"
    if status.ended:
        return f"run {run_id} has ended: {status}"
    return f"run {run_id} continues"
