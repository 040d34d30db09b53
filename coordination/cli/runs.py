"""Runs that are there: looked at, followed, stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import click
from rich_click import command

from coordination.cli.context import Call
from coordination.cli.output import print_json, print_table
from coordination.cli.summary import print_run
from coordination.errors import NotFound
from coordination.runs.service import Runs
from coordination.runs.view import LAST
from coordination.wire.connection import reaching

the_run = click.argument("run", default=LAST)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextlib.contextmanager
def opened(call: Call) -> Iterator[Runs]:
    url = call.redis_url()
    with reaching(url):
        yield Runs(url, call.settings)


@command()
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1), help="How many.")
@as_json
@click.pass_obj
def list_runs(call: Call, limit: int, as_json: bool) -> None:
    """List the runs, latest first."""
    with opened(call) as runs:
        found = runs.reader.list(limit)
    if as_json:
        print_json([run.model_dump(mode="json") for run in found])
        return
    columns = ("run", "plan", "status", "started", "time", "todos")
    print_table(
        columns,
        [
            (
                run.run_id,
                run.plan_id,
                run.status,
                (run.started_at or "")[:19].replace("T", " "),
                "" if run.duration_s is None else f"{run.duration_s:.1f} s",
                ", ".join(f"{n} {state}" for state, n in run.counts.items()),
            )
            for run in found
        ],
    )


@command()
@the_run
@as_json
@click.pass_obj
def show_run(call: Call, run: str, as_json: bool) -> None:
    """Show RUN (an id, its beginning or end, or `last`): every todo with its state, tries, time and reason."""
    with opened(call) as runs:
        view = runs.read(run)
    print_run(view, as_json=as_json)


@command()
@the_run
@as_json
@click.pass_obj
def watch(call: Call, run: str, as_json: bool) -> int:
    """Follow RUN until it ends, from any terminal; exits as `sweep` does."""
    from coordination.cli.following import Following
    from coordination.cli.summary import exit_code
    from coordination.cli.sweep import conclude

    with opened(call) as runs:
        view = Following(runs, runs.reader.resolve(run)).until_the_end()
        conclude(call, runs, view, as_json=as_json)
    return exit_code(view)


@command()
@click.argument("run")
@click.argument("todo")
@click.option("--follow", "-f", is_flag=True, help="Go on until the todo has ended.")
@click.pass_obj
def logs(call: Call, run: str, todo: str, follow: bool) -> None:
    """Print what TODO wrote in RUN (`last` for the latest), every attempt of it."""
    with opened(call) as runs:
        view = runs.read(run)
        if todo not in {t.id for t in view.todos}:
            raise NotFound(f"run {view.run_id} has no todo {todo!r}", f"coord show-run {view.run_id} lists them")
        for text in runs.log(view.run_id, todo):
            if text is not None:
                click.echo(text, nl=False)
            elif not follow or runs.reader.todo(view.run_id, todo).state.ended:
                return


@command()
@the_run
@click.pass_obj
def pause(call: Call, run: str) -> None:
    """Start nothing new in RUN; what runs goes on to its end."""
    with opened(call) as runs:
        run_id = runs.reader.resolve(run)
        runs.pause(run_id)
    click.echo(f"run {run_id} is paused; go on: coord resume {run_id}", err=True)


@command()
@the_run
@click.pass_obj
def resume(call: Call, run: str) -> None:
    """Go on with the paused RUN."""
    with opened(call) as runs:
        run_id = runs.reader.resolve(run)
        runs.resume(run_id)
    click.echo(f"run {run_id} goes on; look: coord watch {run_id}", err=True)


@command()
@the_run
@click.pass_obj
def cancel(call: Call, run: str) -> None:
    """End RUN now: nothing new starts, what runs is stopped; worktrees are kept."""
    with opened(call) as runs:
        run_id = runs.reader.resolve(run)
        runs.cancel(run_id)
    click.echo(f"run {run_id} is cancelled; look: coord show-run {run_id}", err=True)


@command()
@click.argument("todo")
@click.pass_obj
def complete_todo(call: Call, todo: str) -> None:
    """Say that the manual TODO is done, in every run that waits for it."""
    with opened(call) as runs:
        done = runs.complete(todo)
    if not done:
        raise NotFound(f"no run waits for a person to do {todo}", "coord list-runs, coord show-run RUN show what waits")
    click.echo(f"{todo} is done; run {', '.join(done)} goes on", err=True)


@command()
@the_run
@click.pass_obj
def sync(call: Call, run: str) -> None:
    """Write what succeeded in RUN back into the file: status, actual hours, date."""
    from coordination.cli.sweep import write_back

    with opened(call) as runs:
        changed = write_back(call, runs, runs.reader.resolve(run))
    click.echo(f"{len(changed)} todos completed in {call.path}" if changed else "nothing to write back", err=True)
