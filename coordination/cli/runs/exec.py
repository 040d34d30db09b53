"""`exec`: one command in many repositories, with its output by repository."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click
from rich_click import command

from coordination.api import RunView, TodoState
from coordination.cli.context import CliContext
from coordination.cli.following.follow import start_and_follow, write_back
from coordination.cli.following.summary import NOTHING, format_work
from coordination.cli.options.filters import selects_repos
from coordination.cli.options.values import more_than_zero
from coordination.cli.screen.output import as_json_option, print_json
from coordination.terminal import spelled

if TYPE_CHECKING:
    from coordination.api import Selectors
    from coordination.api.commands import RepoOutput
    from coordination.api.run import Run


@command("exec", context_settings={"ignore_unknown_options": False})
@selects_repos
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N",
    help="Run in at most N repositories at once (default: the workers' slots).",
)  # fmt: skip
@click.option(
    "--timeout",
    callback=more_than_zero,
    metavar="TIME",
    help="Stop the command in a repository after TIME: 90s, 10m, 2h (default: as for todos).",
)
@as_json_option
@click.argument("words", metavar="-- COMMAND…", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def exec_(
    call: CliContext,
    wanted: Selectors,
    all_repos: bool,
    jobs: int | None,
    timeout: timedelta | None,
    as_json: bool,
    words: tuple[str, ...],
) -> int:
    """Run COMMAND in each selected repository, and print its output by repository.

    It runs on the machines where the repositories live, in a worktree at the base branch. Several words run
    without a shell, one alone runs in sh: -- 'git log | head'. It fails where it leaves a changed file; for
    changes see `campaign`. Nothing is written into the file.

    Exit code 0: it succeeded everywhere. 3: it failed somewhere. 7: a repository has no worker.
    """
    commands = call.coord.commands
    prepared = commands.prepare(words, wanted, all_repos=all_repos, jobs=jobs, timeout=timeout)
    ready = commands.make_ready(prepared)

    def start() -> Run:
        run = commands.start(ready)
        graph = ready.graph
        work = format_work(graph.size, graph.repos, call.coord.runs.workplaces(graph.repos, jobs))
        click.echo(f"run {run.id}: {work}", err=True)
        for one in call.coord.runs.left_out(ready):
            click.echo(spelled(str(one)), err=True)
        return run

    return start_and_follow(call, start, detach=False, as_json=as_json, ending=_print_outputs)


def _print_outputs(
    call: CliContext, run: Run, view: RunView, *, as_json: bool, beside: Mapping[str, Any] = NOTHING
) -> None:
    """Print the output of each repository below a line that names it."""
    write_back(call, run)
    outputs = call.coord.commands.outputs(run, view)
    if as_json:
        print_json({**view.model_dump(), **beside, "outputs": [one.model_dump() for one in outputs]})
        return
    for one in outputs:
        click.echo(spelled(_heading(one)))
        if one.output:
            click.echo(spelled(one.output), nl=not one.output.endswith("\n"))
        for line in (one.error or "").splitlines()[1:]:
            click.echo(spelled(line))


def _heading(one: RepoOutput) -> str:
    ended = "" if one.duration_s is None else f" in {one.duration_s:.1f} s"
    why = "" if one.state is TodoState.SUCCEEDED else f": {(one.error or '').partition(chr(10))[0]}"
    return f"── {one.repo}: {one.state}{ended}{why}"
