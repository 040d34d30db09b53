"""`retry`, `rollback` and `checkpoint`: run the failed part of a run again, or undo it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from coordination.api import LAST, OF_TODOS, UNDOABLE, NamedCheckpoint, RollbackPreview, RunStatus, RunView
from coordination.cli.context import CliContext, confirm, despite_quiet, yes_option
from coordination.cli.following.follow import start_and_follow, write_back
from coordination.cli.following.live_progress import Following
from coordination.cli.following.summary import format_work, print_end, print_run
from coordination.cli.options.values import detach_option
from coordination.cli.screen.output import as_json_option, print_json
from coordination.errors import ExitCode, UsageError
from coordination.models import OnFailure
from coordination.terminal import spelled
from coordination.text import counted, listed

if TYPE_CHECKING:
    from coordination.api import RetryPlan
    from coordination.api.planning import Workplaces
    from coordination.api.run import Run


@detach_option
@as_json_option
def retry(call: CliContext, values: dict[str, Any], *, detach: bool, as_json: bool) -> int:
    """Exit as `sweep` does."""
    ended = call.coord.runs.get(values.pop("run", LAST), OF_TODOS)
    limits = {name: values.pop(name) for name in ("on_failure", "max_parallel") if name in values}
    return _execute(call, ended, ended.prepare_retry(**values), **limits, detach=detach, as_json=as_json)


def _execute(
    call: CliContext,
    ended: Run,
    plan: RetryPlan,
    *,
    on_failure: OnFailure | None = None,
    max_parallel: int | None = None,
    detach: bool = False,
    as_json: bool = False,
) -> int:
    """Start a prepared retry, follow it, and print its result."""
    if plan.nothing_to_do:
        return _print_nothing(plan, as_json=as_json)
    call.coord.start_worker(plan.repos)

    def begin() -> Run:
        run = ended.start_retry(plan, on_failure=on_failure, max_parallel=max_parallel)
        _print_started(run.id, plan, call.coord.runs.workplaces(plan.repos, run.max_parallel()))
        return run

    return start_and_follow(call, begin, detach=detach, as_json=as_json)


def _print_nothing(plan: RetryPlan, *, as_json: bool) -> int:
    click.echo(f"nothing to do: {plan.nothing_to_do}", err=True)
    if as_json:
        print_json({"run_id": None, "nothing_to_do": plan.nothing_to_do})
    return ExitCode.BLOCKED if plan.blocked else 0


def _print_started(run_id: str, plan: RetryPlan, places: Workplaces) -> None:
    old = plan.ended
    work = format_work(f"{counted(len(plan.again), 'todo')} of {old.run_id} again", plan.repos, places)
    click.echo(f"run {run_id} of {old.meta['plan_id']}: {work}; {len(plan.carried)} carried over", err=True)
    if back := [todo for todo in plan.again if todo in plan.set_back.again]:
        click.echo(f"  run again although they succeeded: {listed(back)}", err=True)
    if plan.lost:
        click.echo(
            f"  run again because their commits were lost with their host: {listed(plan.lost)}", err=True
        )
    if plan.by_hand:
        click.echo(f"  not run, completed in the file: {listed(sorted(plan.by_hand))}", err=True)


def print_checkpoint(made: NamedCheckpoint) -> None:
    done = counted(len(made.succeeded), "todo")
    click.echo(f"checkpoint {made.name} of run {made.run_id}: {done} succeeded", err=True)


@click.option("--dry-run", is_flag=True, help="Print what would be undone; change nothing.")
@yes_option
@as_json_option
def restore(call: CliContext, values: Mapping[str, Any], *, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Exit as `sweep` does; 3 also where something could not be undone."""
    name = values["name"]
    target = call.coord.runs.get(values.get("run", LAST), OF_TODOS)
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
        return ExitCode.FAILED
    if preview.todos or ended.rollback:
        click.echo(
            f"the branch of run {target.id} still has the undone commits: merge the branch of the next run",
            err=True,
        )
    return _execute(call, target, target.prepare_retry(), as_json=as_json)


@click.option("--dry-run", is_flag=True, help="Print what would be undone and removed; change nothing.")
@yes_option
@detach_option
@as_json_option
def rollback(
    call: CliContext, values: Mapping[str, Any], *, dry_run: bool, yes: bool, detach: bool, as_json: bool
) -> int:
    """Exit code 0: all is undone. 3: something could not be undone."""
    accepted, reason = values.get("accept", ()), values.get("reason")
    _check(accepted, reason)
    target = call.coord.runs.get(values.get("run", LAST), UNDOABLE)
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
    return 0 if run.status is RunStatus.ROLLED_BACK else ExitCode.FAILED


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
