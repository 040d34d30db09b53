"""Runs that are there: looked at, followed, stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import click
from rich_click import command

from coordination.cli.completing import run_ids, todo_ids
from coordination.cli.context import Call
from coordination.cli.output import print_json
from coordination.cli.summary import print_run
from coordination.cli.tables import print_table
from coordination.planner.selection import counted
from coordination.runs.service import Runs
from coordination.runs.view import LAST
from coordination.wire.connection import reaching

the_run = click.argument("run", default=LAST, shell_complete=run_ids)
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
    from coordination.cli.advice import say_next

    with opened(call) as runs:
        view = runs.read(run)
        print_run(view, as_json=as_json)
        say_next(runs, view, call.state / "worktrees")


@command()
@the_run
@as_json
@click.pass_obj
def watch(call: Call, run: str, as_json: bool) -> int:
    """Follow RUN until it ends, from any terminal or machine; exits as `sweep` does."""
    from coordination.cli.following import Following
    from coordination.cli.summary import exit_code
    from coordination.cli.sweep import conclude

    with opened(call) as runs:
        view = Following(runs, runs.reader.resolve(run)).until_the_end()
        conclude(call, runs, view, as_json=as_json)
    return exit_code(view)


@command()
@the_run
@click.argument("todo", required=False, shell_complete=todo_ids)
@click.option("--follow", "-f", is_flag=True, help="Go on until the todo, or the run, has ended.")
@click.pass_obj
def logs(call: Call, run: str, todo: str | None, follow: bool) -> None:
    """Print what TODO wrote in RUN (`last` for the latest), every attempt of it; without TODO, what all of them wrote."""
    with opened(call) as runs:
        for text in runs.log(runs.reader.resolve(run), todo, follow=follow):
            click.echo(text, nl=False)


@command()
@the_run
@as_json
@click.pass_obj
def sync(call: Call, run: str, as_json: bool) -> None:
    """Write what succeeded in RUN back into the file: status, actual hours, date."""
    from coordination.cli.sweep import write_back

    with opened(call) as runs:
        run_id = runs.reader.resolve(run)
        changed = write_back(call, runs, run_id)
    if as_json:
        print_json({"run_id": run_id, "completed": list(changed)})
    words = (
        f"{counted(len(changed), 'todo')} of run {run_id} completed in {call.path}"
        if changed
        else "nothing to write back"
    )
    click.echo(words, err=True)
