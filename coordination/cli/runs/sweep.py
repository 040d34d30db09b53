"""`sweep` and `execute`: start a run, follow it, print its result."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click
from rich_click import command

from coordination.api import BEGINNING, RunStatus, RunView, Selectors, Written
from coordination.cli.completion import plan_ids, todo_ids
from coordination.cli.context import CliContext, aloud, warn
from coordination.cli.options.filters import narrowed
from coordination.cli.options.prompts import yes_option
from coordination.cli.options.values import choice, more_than_zero
from coordination.cli.runs.advice import print_advice
from coordination.cli.runs.changes import discard_before
from coordination.cli.runs.dry_run import print_preview
from coordination.cli.runs.live_progress import Following
from coordination.cli.runs.summary import BLOCKED, INTERRUPTED, NOTHING, exit_code, format_work, print_end
from coordination.cli.screen.output import print_json
from coordination.errors import Conflict, CoordinationError, Unreachable
from coordination.models import OnFailure, Strategy, WriteBack
from coordination.terminal import spelled
from coordination.text import listed

if TYPE_CHECKING:
    from coordination.api.planning import Sweep, SweepOptions
    from coordination.api.run import Run

accept = click.option(
    "--accept", "accepted", multiple=True, metavar="TODO", shell_complete=todo_ids,
    help="Count the result of a completed TODO as merged: it is in its base branch in another form.",
)  # fmt: skip
run_timeout = click.option(
    "--timeout",
    callback=more_than_zero,
    metavar="TIME",
    help="End the run after TIME: 90s, 10m, 2h (default: as in the plan).",
)
not_cached = click.option("--no-cache", is_flag=True, help="Run todos with a cache, too; keep their results.")


@command()
@click.argument("plan", shell_complete=plan_ids)
@choice("--strategy", Strategy, "Default: as in the plan.")
@choice("--on-failure", OnFailure, "Default: as in the plan.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Run at most N todos at once (default: the workers' slots).",
)
@narrowed
@click.option(
    "--fresh", is_flag=True,
    help="Discard the plan's change set before: its todos are open again; asks, unless --yes is given.",
)  # fmt: skip
@click.option("--failed", is_flag=True, help="Select the failed and blocked todos of the plan's latest run.")
@run_timeout
@not_cached
@accept
@click.option(
    "--dry-run", is_flag=True, help="Print what would run where, and why the rest would not; start nothing."
)
@yes_option
@click.option("--detach", is_flag=True, help="Return at once; follow the run: coord watch last.")
@click.option("--json", "as_json", is_flag=True, help="Print the run as JSON at its end.")
@click.pass_obj
def sweep(
    call: CliContext,
    plan: str,
    strategy: str | None,
    on_failure: str | None,
    jobs: int | None,
    wanted: Selectors,
    fresh: bool,
    failed: bool,
    timeout: timedelta | None,
    no_cache: bool,
    accepted: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    detach: bool,
    as_json: bool,
) -> int:
    """Run PLAN: every open todo of it, in dependency order.

    Selectors of one kind (`--repo a --repo b`) are a union, different kinds intersect. A todo that depends on
    an open todo outside of the selection is blocked. The run begins with what the plan has made and not
    landed. Where a todo depends on a completed one of another plan whose result has not landed, or another
    run writes the same repositories of the plan, nothing starts (exit code 6).

    Exit code 0: all succeeded. 3: some failed, or all was undone. 5: some were blocked from outside, and
    nothing failed.
    """
    options = _options(strategy, on_failure, jobs, no_cache=no_cache, timeout=timeout)
    if fresh:
        discard_before(call, plan, dry_run=dry_run, yes=yes)
    if dry_run:
        preview = call.coord.runs.preview_sweep(
            plan, wanted, options, failed=failed, accept=accepted, fresh=fresh
        )
        return print_preview(preview, as_json=as_json)
    prepared = call.coord.runs.prepare_sweep(plan, wanted, options, failed=failed)
    return carry_out(call, prepared, accepted=accepted, detach=detach, as_json=as_json)


@command()
@click.argument("todo", shell_complete=todo_ids)
@click.option(
    "--timeout",
    callback=more_than_zero,
    metavar="TIME",
    help="Stop it after TIME: 90s, 10m, 2h (default: as in the todo).",
)
@not_cached
@accept
@click.option("--detach", is_flag=True, help="Return at once; follow the run: coord watch last.")
@click.option("--json", "as_json", is_flag=True, help="Print the run as JSON at its end.")
@click.pass_obj
def execute(
    call: CliContext,
    todo: str,
    timeout: timedelta | None,
    no_cache: bool,
    accepted: tuple[str, ...],
    detach: bool,
    as_json: bool,
) -> int:
    """Run one TODO, in a run of its own."""
    prepared = call.coord.runs.prepare_execute(todo, timeout, _options(no_cache=no_cache))
    return carry_out(call, prepared, accepted=accepted, detach=detach, as_json=as_json)


def _options(
    strategy: str | None = None,
    on_failure: str | None = None,
    jobs: int | None = None,
    *,
    no_cache: bool,
    timeout: timedelta | None = None,
) -> SweepOptions:
    from coordination.api.planning import SweepOptions

    return SweepOptions(
        strategy=Strategy(strategy) if strategy else None,
        on_failure=OnFailure(on_failure) if on_failure else None,
        max_parallel=jobs,
        no_cache=no_cache,
        timeout=timeout,
    )


def carry_out(
    call: CliContext,
    prepared: Sweep,
    *,
    accepted: Collection[str] = (),
    detach: bool = False,
    as_json: bool = False,
    beside: Mapping[str, Any] = NOTHING,
) -> int:
    """Start a prepared run, follow it, print its result; return the exit code. `beside`: further fields of
    the JSON.
    """
    graph = prepared.graph
    if graph.nothing_to_do:
        click.echo(f"nothing to do: {graph.nothing_to_do}", err=True)
    for name, why in graph.blocked.items():
        click.echo(f"- {name}  blocked by {why}", err=True)
    if not graph.todos:
        if as_json:
            nothing = {"run_id": None, "nothing_to_do": graph.nothing_to_do, "blocked": dict(graph.blocked)}
            print_json({**nothing, **beside})
        return 0 if graph.nothing_to_do else BLOCKED
    runs = call.coord.runs
    ready = runs.make_ready(prepared)
    left = runs.left_out(ready)

    def start() -> Run:
        run = runs.start(ready, accepted)
        work = format_work(graph.size, graph.repos, runs.workplaces(graph.repos, ready.order.max_parallel))
        click.echo(f"run {run.id} of {graph.plan.id}: {work}; strategy: {ready.order.reason}", err=True)
        for one in left:
            click.echo(spelled(str(one)), err=True)
        return run

    beside = {**beside, "left_out": [asdict(one) for one in left]}
    return see_through(call, start, detach=detach, as_json=as_json, beside=beside)


def see_through(
    call: CliContext,
    start: Callable[[], Run],
    *,
    detach: bool,
    as_json: bool,
    since: str = BEGINNING,
    code: Callable[[RunView], int] = exit_code,
    beside: Mapping[str, Any] = NOTHING,
    ending: Callable[..., None] | None = None,
) -> int:
    """Start a run, or a rollback, follow it to its end and conclude it. Return the exit code.

    `since`: the last event that is not to be shown; `code`: returns the exit code; `beside`: further fields
    of the JSON; `ending`: concludes it in place of `conclude`.
    """
    following, interrupted = None, False
    try:
        with _interruption_held_back():
            run = start()
            following = Following(
                run, since, call.coord.restarted, every=call.coord.settings.progress_interval
            )
        if detach:
            call.coord.detach()
            click.echo(f"  runs in the background; follow it: coord watch {run.id}", err=True)
            if as_json:
                print_end(run.view(), as_json=True, beside=beside)
            return 0
        view = following.until_the_end()
    except KeyboardInterrupt as interruption:
        if following is None:
            raise
        back = _rolls_back(run)
        if back or isinstance(interruption, Terminated) or not _wants_to_cancel():
            call.coord.detach()
            what = "the rollback continues" if back else "the run continues"
            way_out = "" if back else f"end it: coord cancel {run.id}; "
            click.echo(
                f"\n{what}; follow it: coord watch {run.id}; {way_out}stop the processes here: coord down",
                err=True,
            )
            return INTERRUPTED
        view, interrupted = _cancel(run, following), True
    (ending or conclude)(call, run, view, as_json=as_json, beside=beside)
    return INTERRUPTED if interrupted else code(view)


def conclude(
    call: CliContext, run: Run, view: RunView, *, as_json: bool, beside: Mapping[str, Any] = NOTHING
) -> None:
    """Write an ended run back into the file, print its result and the next commands."""
    written = write_back(call, run)
    print_end(view, as_json=as_json, beside=beside)
    if written.reopened:
        click.echo(f"pending again in {call.coord.path}: {listed(written.reopened)}", err=True)
    print_advice(run, view, call.coord.state / "worktrees")
    if not as_json:
        click.echo(f"every todo: coord show-run {run.id}", err=True)


def write_back(call: CliContext, run: Run, *, always: bool = False) -> Written:
    """Write the results of a run into the file; report what cannot be written. `always`: also where the
    settings forbid it.
    """
    if not call.coord.has_file:
        click.echo(f"no ecosystem.yaml here to update; in its folder: coord sync {run.id}", err=True)
        return Written()
    if call.coord.settings.write_back is WriteBack.NONE and not always:
        return Written()
    try:
        written = run.write_back()
        if written.refused:
            warn(
                f"not written into {call.coord.path}, because signatures do not cover it: {written.refused}\n"
                f"  look at them: coord show-run {run.id}"
            )
        if written.left:
            click.echo(f"undone, but still completed in {call.coord.path}: {listed(written.left)}", err=True)
        return written
    except CoordinationError as error:
        warn(f"{call.coord.path} was not updated: {error}\n  then write the results: coord sync {run.id}")
        return Written()


def _rolls_back(run: Run) -> bool:
    """Tell whether the run is rolled back: then there is nothing to cancel."""
    with contextlib.suppress(Unreachable):
        return run.status() is RunStatus.ROLLING_BACK
    return False


def _cancel(run: Run, following: Following) -> RunView:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave_at_once)
    click.echo("\ncancelling; press Ctrl-C again to leave at once", err=True)
    with contextlib.suppress(Conflict):  # it ended in between
        run.cancel()
    return following.until_the_end()


class Terminated(KeyboardInterrupt):
    """SIGTERM: this process ends without a question; its run goes on."""


def _terminate(_number: int, _frame: object) -> None:
    raise Terminated


@contextlib.contextmanager
def _interruption_held_back() -> Iterator[None]:
    """Delay interruptions until the end of the block: nobody could be asked about a run that has no name
    yet. Afterwards SIGTERM raises Terminated.
    """
    arrived: list[int] = []

    def note(number: int, _frame: object) -> None:
        arrived.append(number)
        signal.signal(number, _leave_at_once)

    # A handler that our parent process has set stays as it is.
    meant = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    ours = [number for number, usual in meant.items() if signal.getsignal(number) in (usual, _terminate)]
    for number in ours:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, _terminate if number == signal.SIGTERM else signal.default_int_handler)
    if arrived:
        raise Terminated if signal.SIGTERM in arrived else KeyboardInterrupt


def _leave_at_once(_number: int, _frame: object) -> None:
    os.write(2, b"left; stop the processes here: coord down\n")
    os._exit(INTERRUPTED)


def _wants_to_cancel() -> bool:
    """Ask on a terminal; elsewhere an interruption cancels."""
    if not sys.stdin.isatty():
        return True
    signal.signal(signal.SIGINT, _leave_at_once)
    with aloud():
        answer: str = click.prompt(
            "\n[l]eave the run going, or [c]ancel it?",
            type=click.Choice(["l", "c"]),
            show_choices=False,
            err=True,
        )
    return answer == "c"
