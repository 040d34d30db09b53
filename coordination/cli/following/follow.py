"""Starts a run, follows it to its end, writes its results into the file, and prints them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coordination.api import (
    BEGINNING,
    MILESTONE_REPO,
    RunStatus,
    RunView,
    TodoState,
    TodoView,
    is_landing,
    only_looks,
    runs_command,
    start_again,
)
from coordination.cli.context import CliContext, despite_quiet, warn
from coordination.cli.following.summary import (
    NOTHING,
    elsewhere,
    end_of_output,
    exit_code,
    format_wait,
    no_task,
    print_end,
    titled,
    waits,
)
from coordination.errors import Conflict, CoordinationError, ExitCode, NotAllowed, NotFound, Unreachable
from coordination.models import WriteBack
from coordination.terminal import spelled
from coordination.text import counted, listed

if TYPE_CHECKING:
    from coordination.api import Written
    from coordination.api.run import Run
    from coordination.cli.following.live_progress import Following


def start_and_follow(
    call: CliContext,
    start: Callable[[], Run],
    *,
    detach: bool,
    as_json: bool,
    since: str = BEGINNING,
    code: Callable[[RunView], int] = exit_code,
    extra: Mapping[str, Any] = NOTHING,
    ending: Callable[..., None] | None = None,
    shows_output: bool = True,
    leave: Callable[[RunView], bool] | None = None,
) -> int:
    """Start a run, or a rollback, follow it to its end and conclude it. Return the exit code.

    `since`: the last event that is not shown; `code`: returns the exit code; `extra`: further fields of the
    JSON; `ending`: is called in place of `conclude`; `shows_output`: a failed todo is followed by the end of
    its output; `leave`: returns true where the run is left to itself before its end.
    """
    from coordination.cli.following.live_progress import Following

    following, interrupted = None, False
    try:
        with _interruption_held_back():
            run = start()
            following = Following(
                run,
                since,
                call.coord.restarted,
                every=call.coord.settings.progress_interval,
                shows_output=shows_output and not call.is_quiet,
            )
        if detach:
            call.coord.detach()
            click.echo(f"  runs in the background; follow it: coord watch {run.id}", err=True)
            if as_json:
                print_end(run.view(), as_json=True, extra=extra)
            return 0
        view = following.until_the_end(leave)
        if not view.status.ended:
            call.coord.detach()
            click.echo(f"  the run goes on in the background; follow it: coord watch {run.id}", err=True)
            return 0
    except KeyboardInterrupt as interruption:
        if following is None:
            raise
        rolling_back = _rolls_back(run)
        if rolling_back or isinstance(interruption, Terminated) or not _wants_to_cancel():
            call.coord.detach()
            if _has_ended(run):
                click.echo(f"\nthe run has ended meanwhile: coord show-run {run.id}", err=True)
                return ExitCode.INTERRUPTED
            continues = "the rollback continues" if rolling_back else "the run continues"
            cancel = "" if rolling_back else f"end it: coord cancel {run.id}; "
            click.echo(
                f"\n{continues}; follow it: coord watch {run.id}; {cancel}"
                "stop the processes here: coord down",
                err=True,
            )
            return ExitCode.INTERRUPTED
        view, interrupted = _cancel(run, following), True
    (ending or conclude)(call, run, view, as_json=as_json, extra=extra, shown=following.shown)
    return ExitCode.INTERRUPTED if interrupted else code(view)


def conclude(
    call: CliContext,
    run: Run,
    view: RunView,
    *,
    as_json: bool,
    extra: Mapping[str, Any] = NOTHING,
    shown: Collection[str] = (),
) -> None:
    """Write an ended run back into the file, print its result and the next commands. `shown`: the failed
    todos whose output was printed already.
    """
    written = write_back(call, run)
    print_end(view, as_json=as_json, extra=extra)
    if written.reopened:
        click.echo(f"pending again in {call.coord.path}: {listed(written.reopened)}", err=True)
    print_advice(run, view, call.coord.state / "worktrees", shown=shown)
    if not as_json:
        click.echo(f"details: coord show-run {run.id}", err=True)


def write_back(call: CliContext, run: Run, *, ordered: bool = False) -> Written:
    """Write the results of a run into the file; print the reasons where they cannot be written. `ordered`: by
    `coord run sync`, even if the settings forbid it. Raises NotAllowed then.
    """
    from coordination.api import Written

    if not call.coord.has_file:
        click.echo(f"no ecosystem.yaml here to update; in its folder: coord run sync {run.id}", err=True)
        return Written()
    if call.coord.settings.write_back is WriteBack.NONE and not ordered:
        return Written()
    try:
        written = run.write_back(ordered=ordered)
        if written.refused:
            warn(
                f"not written into {call.coord.path}, because signatures do not cover it: {written.refused}\n"
                f"  look at them: coord show-run {run.id}"
            )
        if written.left:
            click.echo(f"undone, but still completed in {call.coord.path}: {listed(written.left)}", err=True)
        return written
    except CoordinationError as error:
        if ordered and isinstance(error, NotAllowed):
            raise
        warn(f"{call.coord.path} was not updated: {error}\n  then write the results: coord run sync {run.id}")
        return Written()


def _rolls_back(run: Run) -> bool:
    """Return whether the run is being rolled back: a rollback cannot be cancelled."""
    with contextlib.suppress(Unreachable):
        return run.status() is RunStatus.ROLLING_BACK
    return False


def _has_ended(run: Run) -> bool:
    with contextlib.suppress(Unreachable, NotFound):
        return run.status().ended
    return False


def _cancel(run: Run, following: Following) -> RunView:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave_at_once)
    click.echo("\ncancelling; press Ctrl-C again to leave at once", err=True)
    with contextlib.suppress(Conflict):  # the run has ended meanwhile
        run.cancel()
    return following.until_the_end()


class Terminated(KeyboardInterrupt):
    """SIGTERM: this process ends without a question; its run continues."""


def _terminate(_number: int, _frame: object) -> None:
    raise Terminated


@contextlib.contextmanager
def _interruption_held_back() -> Iterator[None]:
    """Delay interruptions until the end of the block: before that, the run has no id that could be shown.
    Afterwards SIGTERM raises Terminated.
    """
    received: list[int] = []

    def note(number: int, _frame: object) -> None:
        received.append(number)
        signal.signal(number, _leave_at_once)

    # A handler that the parent process has set stays.
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    replaced = [
        number for number, default in defaults.items() if signal.getsignal(number) in (default, _terminate)
    ]
    for number in replaced:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, _terminate if number == signal.SIGTERM else signal.default_int_handler)
    if received:
        raise Terminated if signal.SIGTERM in received else KeyboardInterrupt


def _leave_at_once(_number: int, _frame: object) -> None:
    os.write(2, b"left; stop the processes here: coord down\n")
    os._exit(ExitCode.INTERRUPTED)


def _wants_to_cancel() -> bool:
    """Return whether the user wants to cancel the run. Without a terminal, an interruption cancels it."""
    if not sys.stdin.isatty():
        return True
    signal.signal(signal.SIGINT, _leave_at_once)
    with despite_quiet():
        answer: str = click.prompt(
            "\n[l]eave the run going, or [c]ancel it?",
            type=click.Choice(["l", "c"]),
            show_choices=False,
            err=True,
        )
    return answer == "c"


FAILED = (TodoState.FAILED, TodoState.COMPENSATION_FAILED)
SHOWN_FAILURES = 3
SHOWN_REFUSALS = 20
SHOWN_PULLS = 5


def print_advice(
    run: Run, view: RunView, worktrees: Path, *, err: bool = True, shown: Collection[str] = ()
) -> None:
    """Print the failed todos, with --quiet too; then the waits and the next commands.
    `err`: to stderr, as messages about a command; else to stdout, as a part of its answer.
    `shown`: the failed todos whose output was printed already.
    """

    def tail(todo: str) -> str:
        return "" if todo in shown else run.log_tail(todo)

    with despite_quiet():
        for line in failures(view, tail, worktrees / view.run_id, run.task):
            click.echo(spelled(line), err=err)
    now, task_of = datetime.now(UTC), no_task if is_landing(view.plan_id) else run.task
    for wait in waits(view, run.max_parallel(), task_of) if not view.status.ended else ():
        click.echo(spelled(format_wait(wait, now)), err=err)
    for line in advice(view, run.branches(view), worktrees / view.run_id, run.lands_by_requests):
        click.echo(spelled(line), err=err)
    for line in behind(run.commands_to_pull(view)) if view.status.ended else ():
        click.echo(spelled(line), err=err)


def behind(pulls: Collection[str]) -> Iterator[str]:
    """Yield lines with the commands that update checkouts after a landing by push or pull request."""
    if pulls:
        yield f"{counted(len(pulls), 'checkout')} behind the remote base branch; update:"
        yield from (f"  {pull}" for pull in list(pulls)[:SHOWN_PULLS])
    if len(pulls) > SHOWN_PULLS:
        yield f"  and so on for {len(pulls) - SHOWN_PULLS} more"


def failures(
    run: RunView, tail: Callable[[str], str], worktrees: Path, task_of: Callable[[str], str] = no_task
) -> Iterator[str]:
    """Yield lines that name every failed todo. `tail`: returns the end of a log; `task_of`: the task of a
    todo.
    """
    undone = run.status is RunStatus.ROLLED_BACK
    failed = [todo for todo in run.todos if todo.has_failed]
    if is_landing(run.plan_id):
        yield from _refusals(run, failed, tail)
        return
    for todo in failed[:SHOWN_FAILURES]:
        heading = f"✗ {todo.id}  {todo.repo}{titled(task_of(todo.id))}"
        if undone:
            yield f"{heading}  {(todo.error or '').partition(chr(10))[0]}"
            yield from end_of_output(tail(todo.id))
            yield f"  full log: coord logs {run.run_id} {todo.id}"
        else:
            yield from _failure(heading, run.run_id, todo, tail(todo.id), worktrees / todo.repo)
    if more := [todo.id for todo in failed[SHOWN_FAILURES:]]:
        yield f"{len(more)} more failed: {', '.join(more)}; see: coord show-run {run.run_id}"


def _refusals(run: RunView, failed: Sequence[TodoView], tail: Callable[[str], str]) -> Iterator[str]:
    """Yield a line for each refusal of a landing or revert, and each next command once."""
    hints = dict[str, None]()
    for todo in failed[:SHOWN_REFUSALS]:
        message, _, hint = (todo.error or "").partition("\n")
        failure = "could not be undone: " if todo.state is TodoState.COMPENSATION_FAILED else ""
        yield f"✗ {todo.id}  {todo.repo}  {failure}{message}"
        hints.update({hint.strip(): None} if hint else {})
        if runs_command(todo.id):
            yield from end_of_output(tail(todo.id))
    if more := failed[SHOWN_REFUSALS:]:
        yield f"{len(more)} more failed; see: coord show-run {run.run_id}"
    yield from (f"  {hint}" for hint in hints)
    if failed:
        yield f"  full logs: coord logs {run.run_id} {'TODO' if len(failed) > 1 else failed[0].id}"


def advice(
    run: RunView,
    branches: Mapping[str, str],
    worktrees: Path,
    by_requests: Callable[[Collection[str]], bool] = lambda _: False,
) -> Iterator[str]:
    """Yield lines with the next commands. `branches`: repository → the branch with its work; `by_requests`
    returns whether a forge can be asked for pull requests of these repositories.
    """
    for branch in () if is_landing(run.plan_id) else sorted(set(branches.values()), reverse=True):
        repos = sorted(repo for repo, of_repo in branches.items() if of_repo == branch)
        yield f"commits are on branch {branch} in {listed(repos)}"
    failed = [todo for todo in run.todos if todo.state in FAILED]
    if run.status is RunStatus.ROLLED_BACK:
        yield from _all_undone(run)
    elif run.status is RunStatus.ROLLBACK_FAILED:
        yield from _not_undone(run)
    elif is_landing(run.plan_id) and run.status in (RunStatus.FAILED, RunStatus.CANCELLED):
        yield f"remove the cause, then continue: {start_again(run.plan_id)}"
        if (revert := f"coord revert {run.plan_id.partition(':')[2]}") != start_again(run.plan_id):
            yield f"revert the landed work: {revert}"
    elif failed and run.status is RunStatus.FAILED:
        yield _where_to_fix(run, failed, worktrees)
        yield f"then run the rest: coord retry {run.run_id}"
    elif run.status is RunStatus.CANCELLED:
        if worktrees.is_dir():
            yield f"worktrees: {worktrees}"
        yield f"run the rest: coord retry {run.run_id}"
    elif not run.status.ended:
        yield f"follow it: coord watch {run.run_id}"
    else:
        yield from _how_to_land(run, branches, by_requests)


def _how_to_land(
    run: RunView, branches: Mapping[str, str], by_requests: Callable[[Collection[str]], bool]
) -> Iterator[str]:
    if not run.change_set:
        return
    unchanged = {todo.repo for todo in run.todos} - {*branches, MILESTONE_REPO}
    if unchanged:
        yield f"unchanged: {listed(sorted(unchanged))}" if branches else "no repository was changed"
    if branches and by_requests(branches):
        yield f"open pull requests, for a review: coord pr create {run.change_set}"
    if branches:
        yield f"bring them into the base branches: coord land {run.change_set}"


def _where_to_fix(run: RunView, failed: Iterable[TodoView], worktrees: Path) -> str:
    if any((worktrees / todo.repo).is_dir() or elsewhere(todo) for todo in failed):
        return (
            "fix the cause in the file, on the repository's branch, "
            f"or by a commit in the worktree, on the branch of run {run.run_id}"
        )
    return "fix the cause in the file or on the repository's branch: there is no worktree yet"


def _all_undone(run: RunView) -> Iterator[str]:
    accepted = [todo.id for todo in run.todos if todo.accepted]
    before = f", also those of run {run.carried_from} before it" if run.carried_from else ""
    exceptions = f", except {listed(accepted)} (accepted as it is)" if accepted else ""
    if is_landing(run.plan_id):
        landed = any(todo.was and not only_looks(run.plan_id, todo.id) for todo in run.todos)
        yield f"all that had landed was reverted{exceptions}" if landed else "nothing has landed"
    elif any(todo.was for todo in run.todos):
        yield f"all started todos were undone{before}{exceptions}"
    else:
        yield "nothing had started"
    yield f"start again: {start_again(run.plan_id)}"


def _not_undone(run: RunView) -> Iterator[str]:
    failed = [todo.id for todo in run.todos if todo.state is TodoState.COMPENSATION_FAILED]
    if not_undone := sum(bool(todo.started_at) and todo.was is None for todo in run.todos):
        yield f"not undone yet: {counted(not_undone, 'earlier todo')}"
    yield f"fix the cause, then try again: coord rollback {run.run_id}"
    accept = " ".join(f"--accept {todo}" for todo in (failed if len(failed) <= SHOWN_FAILURES else ("TODO",)))
    yield f'or, if it was undone by hand or may stay: coord rollback {run.run_id} {accept} --reason "…"'


def _failure(heading: str, run_id: str, todo: TodoView, tail: str, worktree: Path) -> Iterator[str]:
    message, _, hint = (todo.error or "").partition("\n")
    failure = "could not be undone: " if todo.state is TodoState.COMPENSATION_FAILED else ""
    yield f"{heading}  {failure}{message}"
    if hint:
        yield f"  {hint.strip()}"
    else:
        yield from end_of_output(tail)
        yield f"  full log: coord logs {run_id} {todo.id}"
    if worktree.is_dir():
        yield f"  worktree: {worktree}"
    elif elsewhere(todo):
        yield f"  executed on host {todo.host}"
