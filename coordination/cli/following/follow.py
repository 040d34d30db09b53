"""Following a run: started, shown while it works, written back into the file, its result printed."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from coordination.api import BEGINNING, RunStatus, RunView, Written
from coordination.cli.context import CliContext, aloud, warn
from coordination.cli.following.advice import print_advice
from coordination.cli.following.live_progress import Following
from coordination.cli.following.summary import INTERRUPTED, NOTHING, exit_code, print_end
from coordination.errors import Conflict, CoordinationError, Unreachable
from coordination.models import WriteBack
from coordination.text import listed

if TYPE_CHECKING:
    from coordination.api.run import Run


def start_and_follow(
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
    """Delay interruptions until the end of the block: before that, the run has no id that could be shown.
    Afterwards SIGTERM raises Terminated.
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
