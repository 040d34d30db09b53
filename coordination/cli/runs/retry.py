"""`retry`: after the mend, what failed in a run and what that held up, as a new run.

`checkpoint create | list | restore`: names for what a run has done so far, and the way back there.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich_click import RichGroup, command

from coordination.cli.completing import run_ids, todo_ids
from coordination.cli.context import CliContext
from coordination.cli.options.values import choice
from coordination.cli.runs.following import Following
from coordination.cli.runs.looking import opened, the_run
from coordination.cli.runs.summary import BLOCKED, SOME_FAILED, print_run
from coordination.cli.runs.sweep import record, see_through
from coordination.cli.screen import blocks
from coordination.cli.screen.output import as_json_option, print_json
from coordination.cli.screen.tables import print_table
from coordination.models import OnFailure
from coordination.runs.records import RunStatus
from coordination.text import counted, listed

if TYPE_CHECKING:
    from coordination.runs.retrying.retry_plan import CarryOver
    from coordination.runs.service import Runs


@command()
@the_run
@choice("--on-failure", OnFailure, "If not as it was:")
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="At most N todos at once. Default: as it was.")
@click.option("--without", multiple=True, metavar="HOST", help="This host is gone for good: others do its work.")
@click.option(
    "--from",
    "start",
    multiple=True,
    metavar="TODO",
    shell_complete=todo_ids,
    help="Do this one again too, though it had succeeded, with all that stands on it.",
)
@click.option("--as-it-was", is_flag=True, help="In the run's own order, where the file has another by now.")
@click.option("--detach", is_flag=True, help="Return at once; the run goes on: coord watch last.")
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
    """Run what failed in RUN and what that held up; what had succeeded is carried over. Exits as `sweep` does.

    Mend it in the file (a todo's action, timeout, env), on the repository's branch, or by a commit on coord/RUN in the
    worktree that the run has left.
    """
    with opened(call) as runs:
        how: dict[str, Any] = {"without": without, "start": start, "as_it_was": as_it_was}
        policy = OnFailure(on_failure) if on_failure else None
        run_id = runs.reader.resolve(run)
        return take_up_again(call, runs, run_id, on_failure=policy, jobs=jobs, detach=detach, as_json=as_json, **how)


def take_up_again(
    call: CliContext,
    runs: Runs,
    run_id: str,
    *,
    on_failure: OnFailure | None = None,
    jobs: int | None = None,
    detach: bool = False,
    as_json: bool = False,
    **how: Any,
) -> int:
    """Retry the run, follow that and say what came of it. `how`: see `Runs.left_of`."""
    left = runs.left_of(run_id, call.document.ecosystem if call.has_file else None, **how)
    if left.nothing_to_do:
        return _nothing(left, as_json=as_json)
    if call.has_file and not call.settings.redis_url:
        call.manager.check_paths(left.repos)
        call.local.ensure_worker()

    def begin() -> str:
        new = runs.retry(left, on_failure=on_failure, max_parallel=jobs)
        _say(new, left)
        return new

    return see_through(call, runs, begin, detach=detach, as_json=as_json)


def _nothing(left: CarryOver, *, as_json: bool) -> int:
    click.echo(f"nothing to do: {left.nothing_to_do}", err=True)
    if as_json:
        print_json({"run_id": None, "nothing_to_do": left.nothing_to_do})
    return BLOCKED if left.blocked else 0


def _say(run_id: str, left: CarryOver) -> None:
    old = left.ended
    again = f"{counted(len(left.again), 'todo')} of {old.run_id} again"
    click.echo(f"run {run_id} of {old.meta['plan_id']}: {again}, {len(left.carried)} carried over", err=True)
    if back := [todo for todo in left.again if todo in left.set_back.again]:
        click.echo(f"  done again, though it had succeeded: {listed(back)}", err=True)
    if left.lost:
        click.echo(f"  done again, since their commits went with their host: {listed(left.lost)}", err=True)
    if left.by_hand:
        click.echo(f"  not run, since the file says that they are completed: {listed(sorted(left.by_hand))}", err=True)


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
        columns = ("name", blocks.heading("at"), "by", "succeeded")
        print_table(columns, [(one.name, blocks.shown(one.at), one.by, len(one.succeeded)) for one in found])


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
