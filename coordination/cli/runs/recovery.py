"""`retry`, `rollback` and `checkpoint`: run the failed part of a run again, or undo it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich_click import RichGroup

from coordination.api import OF_TODOS, UNDOABLE, NamedCheckpoint, RollbackPreview, RunStatus, RunView, texts
from coordination.cli.command import command
from coordination.cli.completion import run_ids, todo_ids
from coordination.cli.context import CliContext, confirm, despite_quiet, yes_option
from coordination.cli.following.follow import start_and_follow, write_back
from coordination.cli.following.live_progress import Following
from coordination.cli.following.summary import BLOCKED, SOME_FAILED, format_work, print_end, print_run
from coordination.cli.options.values import choice, detach_option, jobs_option
from coordination.cli.runs.inspection import the_run
from coordination.cli.screen.output import Form, as_json_option, output_options, print_json
from coordination.cli.screen.tables import print_none, print_table
from coordination.cli.times import format_time
from coordination.errors import UsageError
from coordination.models import OnFailure
from coordination.terminal import spelled
from coordination.text import counted, listed

if TYPE_CHECKING:
    from coordination.api import RetryPlan
    from coordination.api.planning import Workplaces
    from coordination.api.run import Run


@command("runs.retry")
@the_run
@choice("--on-failure", OnFailure, texts.AS_IN_RUN)
@jobs_option("Run at most N todos at once (default: as in RUN).")
@click.option("--without", multiple=True, metavar="HOST", help="Give the work of a lost host to others.")
@click.option(
    "--from",
    "start",
    multiple=True,
    metavar="TODO",
    shell_complete=todo_ids,
    help=texts.AGAIN,
)
@click.option("--as-it-was", is_flag=True, help=texts.AS_IT_WAS)
@detach_option
@as_json_option
@click.pass_obj
def retry(
    call: CliContext,
    run: str,
    on_failure: str | None,
    jobs: int | None,
    without: tuple[str, ...],
    start: tuple[str, ...],
    as_it_was: bool,
    detach: bool,
    as_json: bool,
) -> int:
    """Exit as `sweep` does."""
    ended = call.coord.runs.get(run, OF_TODOS)
    plan = ended.prepare_retry(without=without, start=start, as_it_was=as_it_was)
    policy = OnFailure(on_failure) if on_failure else None
    return _execute(call, ended, plan, on_failure=policy, jobs=jobs, detach=detach, as_json=as_json)


def _execute(
    call: CliContext,
    ended: Run,
    plan: RetryPlan,
    *,
    on_failure: OnFailure | None = None,
    jobs: int | None = None,
    detach: bool = False,
    as_json: bool = False,
) -> int:
    """Start a prepared retry, follow it, and print its result."""
    if plan.nothing_to_do:
        return _print_nothing(plan, as_json=as_json)
    call.coord.start_worker(plan.repos)

    def begin() -> Run:
        run = ended.start_retry(plan, on_failure=on_failure, max_parallel=jobs)
        _print_started(run.id, plan, call.coord.runs.workplaces(plan.repos, run.max_parallel()))
        return run

    return start_and_follow(call, begin, detach=detach, as_json=as_json)


def _print_nothing(plan: RetryPlan, *, as_json: bool) -> int:
    click.echo(f"nothing to do: {plan.nothing_to_do}", err=True)
    if as_json:
        print_json({"run_id": None, "nothing_to_do": plan.nothing_to_do})
    return BLOCKED if plan.blocked else 0


def _print_started(run_id: str, plan: RetryPlan, places: Workplaces) -> None:
    old = plan.ended
    work = format_work(f"{counted(len(plan.again), 'todo')} of {old.run_id} again", plan.repos, places)
    carried = f"{len(plan.carried)} carried over; strategy: {old.meta['strategy']}"
    click.echo(f"run {run_id} of {old.meta['plan_id']}: {work}; {carried}", err=True)
    if back := [todo for todo in plan.again if todo in plan.set_back.again]:
        click.echo(f"  run again although they succeeded: {listed(back)}", err=True)
    if plan.lost:
        click.echo(
            f"  run again because their commits were lost with their host: {listed(plan.lost)}", err=True
        )
    if plan.by_hand:
        click.echo(f"  not run, completed in the file: {listed(sorted(plan.by_hand))}", err=True)


a_named_run = click.argument("run", shell_complete=run_ids)


@click.group(cls=RichGroup, no_args_is_help=True)
def checkpoint() -> None:
    """Create, list and restore checkpoints of a run."""


@command("run.create_checkpoint", group=checkpoint, name="create")
@a_named_run
@click.argument("name")
@as_json_option
@click.pass_obj
def create(call: CliContext, run: str, name: str, as_json: bool) -> None:
    made = call.coord.runs.get(run, OF_TODOS).create_checkpoint(name)
    if as_json:
        print_json(asdict(made))
    else:
        click.echo(
            f"checkpoint {name} of run {made.run_id}: {counted(len(made.succeeded), 'todo')} succeeded",
            err=True,
        )


@command("run.checkpoints", group=checkpoint, name="list")
@a_named_run
@output_options(NamedCheckpoint)
@click.pass_obj
def list_(call: CliContext, run: str, form: Form) -> None:
    found = call.coord.runs.get(run, OF_TODOS)
    checkpoints = found.checkpoints()
    form.records(checkpoints, lambda: _print_checkpoints(checkpoints, found.id))


def _print_checkpoints(checkpoints: Sequence[NamedCheckpoint], run: str) -> None:
    if not checkpoints:
        print_none(f"run {run} has no checkpoint", f"create one: coord checkpoint create {run} NAME")
        return
    columns = ("name", "at", "by", "succeeded")
    print_table(columns, [(one.name, format_time(one.at), one.by, len(one.succeeded)) for one in checkpoints])


@command("run.restore", group=checkpoint, name="restore")
@a_named_run
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Print what would be undone; change nothing.")
@yes_option
@as_json_option
@click.pass_obj
def restore(call: CliContext, run: str, name: str, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Exit as `sweep` does; 3 also where something could not be undone."""
    target = call.coord.runs.get(run, OF_TODOS)
    preview = target.restore_preview(name)
    if dry_run and as_json:
        print_json({"run_id": target.id, "name": name, "todos": preview.todos, "helpless": preview.helpless})
        return 0
    with despite_quiet():
        click.echo(
            f"since checkpoint {name}, run {target.id} has started: {listed(preview.todos) or 'nothing'}",
            err=True,
        )
        if preview.helpless:
            click.echo(f"  no way to undo {listed(preview.helpless)}", err=True)
        if dry_run:
            return 0
    if preview.todos:
        confirm(
            f"Undo {counted(len(preview.todos), 'todo')} of run {target.id}, then run the rest again?",
            yes=yes,
        )
    if call.coord.has_file:
        call.coord.ensure_worker()
    since = target.last_event()
    ended = target.undo_to(name)
    if not ended.status.ended:
        ended = Following(target, since, every=call.coord.settings.progress_interval).until_the_end()
    write_back(call, target)
    if ended.status is RunStatus.ROLLBACK_FAILED:
        print_end(ended, as_json=as_json)
        click.echo(
            "not everything was undone; fix the cause, then try again: "
            f"coord checkpoint restore {target.id} {name}",
            err=True,
        )
        return SOME_FAILED
    if preview.todos or ended.rollback:
        click.echo(
            f"the branch of run {target.id} still has the undone commits: merge the branch of the next run",
            err=True,
        )
    return _execute(call, target, target.prepare_retry(), as_json=as_json)


@command("run.rollback")
@the_run
@click.option(
    "--accept", "accepted", multiple=True, metavar="TODO", shell_complete=todo_ids,
    help=texts.ACCEPT_UNDONE,
)  # fmt: skip
@click.option("--reason", metavar="TEXT", help=texts.ACCEPT_REASON)
@click.option("--dry-run", is_flag=True, help="Print what would be undone and removed; change nothing.")
@yes_option
@detach_option
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
    """Exit code 0: all is undone. 3: something could not be undone."""
    _check(accepted, reason)
    target = call.coord.runs.get(run, UNDOABLE)
    preview = target.rollback_preview()
    if dry_run:
        return _print_preview(preview, as_json=as_json)
    if preview.status is RunStatus.ROLLED_BACK and not accepted:
        return _undone_before(call, target, as_json=as_json)
    if not accepted:
        _confirm(preview, yes=yes)
    if call.coord.has_file and preview.todos:
        call.coord.ensure_worker()

    def begin() -> Run:
        if accepted:
            target.begin_accept(accepted, reason or "")
            click.echo(f"accepted in run {target.id}: {listed(accepted)}", err=True)
        elif target.begin_rollback() == "already":
            click.echo(f"run {target.id} is being rolled back already", err=True)
        return target

    since = target.last_event()
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


@despite_quiet()
def _print_preview(preview: RollbackPreview, *, as_json: bool) -> int:
    if as_json:
        print_json({**asdict(preview), "branches": preview.branches})
    else:
        _print_todos(preview)
    return 0


@despite_quiet()
def _confirm(preview: RollbackPreview, *, yes: bool) -> None:
    """Print the todos that would be undone, and ask, unless the rollback has already begun."""
    if preview.status is RunStatus.ROLLING_BACK:
        return
    _print_todos(preview)
    if preview.todos:
        confirm(f"Undo {counted(len(preview.todos), 'todo')} of run {preview.run_id}?", yes=yes)


def _print_todos(preview: RollbackPreview) -> None:
    if not preview.todos:
        click.echo(f"run {preview.run_id} has started nothing: there is nothing to undo", err=True)
        return
    what = f"{counted(len(preview.todos), 'todo')} of run {preview.run_id} in {listed(preview.repos)}"
    click.echo(f"{what}: undone in reverse order", err=True)
    click.echo(f"  branches that go, with their worktrees: {', '.join(preview.branches)}", err=True)
    for todo, text in preview.compensations.items():
        click.echo(f"  {todo} is undone by: {spelled(text)}", err=True)
    if preview.helpless:
        click.echo(f"  no way to undo {listed(preview.helpless)}: undo by hand, then --accept", err=True)
