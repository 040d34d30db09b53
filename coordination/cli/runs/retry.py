"""`retry`: after the mend, what failed in a run and what that held up, as a new run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich_click import command

from coordination.cli.completing import todo_ids
from coordination.cli.context import CliContext
from coordination.cli.options.values import choice
from coordination.cli.runs.looking import opened, the_run
from coordination.cli.runs.summary import BLOCKED
from coordination.cli.runs.sweep import see_through
from coordination.cli.screen.output import print_json
from coordination.cli.screen.shown import as_json_option
from coordination.models import OnFailure
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
