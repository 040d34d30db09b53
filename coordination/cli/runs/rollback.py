"""`rollback`: undo a run, or accept what could not be undone."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich_click import command

from coordination.api import RollbackPreview, RunStatus, RunView
from coordination.cli.completion import todo_ids
from coordination.cli.context import CliContext, aloud
from coordination.cli.following.follow import start_and_follow, write_back
from coordination.cli.following.summary import SOME_FAILED, print_run
from coordination.cli.options.prompts import confirm, yes_option
from coordination.cli.runs.inspection import the_run
from coordination.cli.screen.output import as_json_option, print_json
from coordination.errors import UsageError
from coordination.terminal import spelled
from coordination.text import counted, listed

if TYPE_CHECKING:
    from coordination.api.run import Run


@command()
@the_run
@click.option(
    "--accept", "accepted", multiple=True, metavar="TODO", shell_complete=todo_ids,
    help="Accept a failed compensation: it was undone by hand, or may stay.",
)  # fmt: skip
@click.option("--reason", metavar="TEXT", help="Record the reason of --accept.")
@click.option("--dry-run", is_flag=True, help="Print what would be undone and removed; change nothing.")
@yes_option
@click.option("--detach", is_flag=True, help="Return at once; follow it: coord watch last.")
@as_json_option
@click.pass_obj
def rollback(
    call: CliContext,
    run: str,
    accepted: tuple[str, ...],
    reason: str | None,
    dry_run: bool,
    yes: bool,
    detach: bool,
    as_json: bool,
) -> int:
    """Undo RUN, live or ended: stop running todos, then undo all todos in reverse order.

    Worktrees and branches of the run are removed, for a retry also those of the runs before it; todos with a
    `compensate` are compensated. Called again, it tries failed compensations again.

    Exit code 0: all is undone. 3: something could not be undone.
    """
    _check(accepted, reason)
    found = call.coord.runs.get(run)
    preview = found.rollback_preview()
    if dry_run:
        return _print_preview(preview, as_json=as_json)
    if preview.status is RunStatus.ROLLED_BACK and not accepted:
        return _undone_before(call, found, as_json=as_json)
    if not accepted:
        _confirm(preview, yes=yes)
    if call.coord.has_file and preview.todos:
        call.coord.ensure_worker()

    def begin() -> Run:
        if accepted:
            found.begin_accept(accepted, reason or "")
            click.echo(f"accepted in run {found.id}: {listed(accepted)}", err=True)
        elif found.begin_rollback() == "already":
            click.echo(f"run {found.id} is being rolled back already", err=True)
        return found

    since = found.last_event()
    return start_and_follow(call, begin, detach=detach, as_json=as_json, since=since, code=_code)


def _check(accepted: tuple[str, ...], reason: str | None) -> None:
    if accepted and not (reason or "").strip():
        raise UsageError("a reason is required to accept a failed compensation", 'add: --reason "…"')
    if reason is not None and not accepted:
        raise UsageError("--reason is for what is accepted", "name it: --accept TODO")


def _code(run: RunView) -> int:
    return 0 if run.status is RunStatus.ROLLED_BACK else SOME_FAILED


def _undone_before(call: CliContext, run: Run, *, as_json: bool) -> int:
    """Write back results that the file may lack: nothing else is left to do."""
    click.echo(f"run {run.id} was rolled back already", err=True)
    written = write_back(call, run)
    if written.reopened:
        click.echo(f"pending again in {call.coord.path}: {listed(written.reopened)}", err=True)
    if as_json:
        print_run(run.view(), as_json=True)
    return 0


@aloud()
def _print_preview(found: RollbackPreview, *, as_json: bool) -> int:
    if as_json:
        print_json({**asdict(found), "branches": found.branches})
    else:
        _print_todos(found)
    return 0


@aloud()
def _confirm(found: RollbackPreview, *, yes: bool) -> None:
    """Print what would be undone, and ask; a rollback that goes on already is not asked about."""
    if found.status is RunStatus.ROLLING_BACK:
        return
    _print_todos(found)
    if found.todos:
        confirm(f"Undo {counted(len(found.todos), 'todo')} of run {found.run_id}?", yes=yes)


def _print_todos(found: RollbackPreview) -> None:
    if not found.todos:
        click.echo(f"run {found.run_id} has started nothing: there is nothing to undo", err=True)
        return
    what = f"{counted(len(found.todos), 'todo')} of run {found.run_id} in {listed(found.repos)}"
    click.echo(f"{what}: undone in reverse order", err=True)
    click.echo(f"  branches that go, with their worktrees: {', '.join(found.branches)}", err=True)
    for todo, text in found.compensations.items():
        click.echo(f"  {todo} is undone by: {spelled(text)}", err=True)
    if found.helpless:
        click.echo(f"  no way to undo {listed(found.helpless)}: undo by hand, then --accept", err=True)
