"""The commands that show runs: listed, shown, watched, their logs; written into the file."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coordination.api import LAST, OF_TODOS, ActsOn, RunView, WaveState, levels_of
from coordination.cli.context import CliContext
from coordination.cli.following.summary import format_counts, print_head, print_todos, print_unwritten
from coordination.cli.screen.output import Form, as_json_option, output_options, print_json
from coordination.cli.screen.pager import paged
from coordination.cli.screen.tables import filled, plain, print_table, status_cell
from coordination.cli.times import format_time, how_long
from coordination.errors import NotAllowed, UsageError
from coordination.terminal import Lets, letting, spelled
from coordination.text import counted

if TYPE_CHECKING:
    from coordination.api import WaveView
    from coordination.api.run import Run


def print_runs(runs: Sequence[RunView]) -> None:
    rows = [
        (
            run.run_id,
            run.plan_id,
            status_cell(run.status),
            f"{int(run.progress.percent)} %" if run.progress and not run.status.ended else "",
            format_time(run.started_at),
            "" if run.duration_s is None else f"{run.duration_s:.1f} s",
            format_counts(run),
        )
        for run in runs
    ]
    print_table(*filled(RunView.shown.columns, rows))


@click.option(
    "--gantt",
    metavar="FILE.svg",
    type=click.Path(path_type=Path),
    help="Draw a Gantt chart of the run; replace only such a picture.",
)
@click.option("--by-level", is_flag=True, help="Group the todos by level of the plan's graph.")
@click.option("--by-wave", is_flag=True, help="Print the waves of a landing instead of its todos.")
@click.option("--markdown", is_flag=True, help="Print the waves as a report in Markdown.")
@output_options(RunView)
def show(
    call: CliContext,
    values: Mapping[str, Any],
    *,
    gantt: Path | None,
    by_level: bool,
    by_wave: bool,
    markdown: bool,
    form: Form,
) -> None:
    """RUN is an id, its beginning or end, or `last`. With -v, also how it was scheduled."""
    from coordination.cli.following.follow import print_advice

    target = call.coord.runs.get(values.get("run", LAST))
    view = target.signed_view()
    if gantt is not None:
        _draw(target, gantt)
    more = {"levels": levels_of(view)} if by_level else {}
    if (by_wave or markdown) and not view.waves:
        raise UsageError(f"run {view.run_id} has no waves", f"see its todos: coord show-run {view.run_id}")
    if markdown:
        click.echo(as_markdown(view), nl=False)
        return
    worktrees = call.coord.state / "worktrees"

    def read() -> None:
        _print(view, by_level=by_level, by_wave=by_wave, schedule=call.is_verbose)
        print_advice(target, view, worktrees, err=False)

    form.record(view, more, read)
    if form.wanted:
        print_advice(target, view, worktrees)


def _print(view: RunView, *, by_level: bool, by_wave: bool, schedule: bool) -> None:
    from coordination.cli.following.live_progress import print_levels, progress_lines

    print_head(view, schedule=schedule)
    if view.signed_by:
        click.echo(f"ordered by {plain(view.signed_by)} (signature verified)")
    if view.unsigned != ("the order",):  # without identities no order is signed
        for part in view.unsigned or ():
            click.echo(f"not signed: {plain(part)}")
    print_unwritten(view)
    if view.progress and not view.status.ended:
        for text in progress_lines(view.progress):
            click.echo(text)
    if view.waves:
        print_waves(view.waves)
    if not by_wave:
        (print_levels if by_level else print_todos)(view)
    if view.change_set:
        where = ", ".join(f"{repo} ({tip[:12]})" for repo, tip in view.tips.items())
        click.echo(plain(f"change set {view.change_set}: {where or 'no commits'}"))


def _draw(run: Run, path: Path) -> None:
    from coordination.cli.screen.output import refuse_other, write_picture

    refuse_other(path)
    write_picture(path, run.gantt())
    click.echo(f"wrote {path}", err=True)


@as_json_option
def watch(call: CliContext, values: Mapping[str, Any], *, as_json: bool) -> int:
    """It may be done from any terminal or machine. Exit as `sweep` does."""
    from coordination.cli.following.follow import conclude
    from coordination.cli.following.live_progress import Following
    from coordination.cli.following.summary import exit_code

    target = call.coord.runs.get(values.get("run", LAST))
    following = Following(
        target,
        restarted=call.coord.restarted,
        every=call.coord.settings.progress_interval,
        shows_output=not call.is_quiet,
    )
    view = following.until_the_end()
    conclude(call, target, view, as_json=as_json, shown=following.shown)
    return exit_code(view)


@click.option(
    "--raw",
    is_flag=True,
    help="Print every byte as it was written: on a terminal it may move the cursor.",
)
def logs(call: CliContext, values: Mapping[str, Any], *, raw: bool) -> None:
    r"""Without TODO: of all todos. Colours are printed; other control characters are printed as escapes
    (`\u001b`), also to a pipe or file.
    """
    todo, follow = values.get("todo"), values.get("follow", False)
    run = call.coord.runs.get(values.get("run", LAST), ActsOn(todo=todo))
    plain = click.get_current_context().color is False
    lets = Lets.ALL if raw else Lets.NOTHING if plain else Lets.COLOURS
    with nullcontext() if follow or raw else paged(), letting(sys.stdout, lets):
        for text in run.log(todo, follow=follow, records=values.get("records", False)):
            sys.stdout.write(text)
            sys.stdout.flush()


@as_json_option
def sync(call: CliContext, values: Mapping[str, Any], *, as_json: bool) -> None:
    """Todos that were undone are pending again."""
    from coordination.cli.following.follow import write_back

    target = call.coord.runs.get(values.get("run", LAST), OF_TODOS)
    run_id, written = target.id, write_back(call, target, ordered=True)
    if as_json:
        completed, reopened = (*written.completed, *written.reached), (*written.reopened, *written.lost)
        print_json({"run_id": run_id, "completed": list(completed), "reopened": list(reopened)})
    changes = (
        ("todo", "completed", written.completed),
        ("milestone", "completed", written.reached),
        ("todo", "pending again", written.reopened),
        ("milestone", "pending again", written.lost),
    )
    for noun, status, names in changes:
        if names:
            click.echo(f"{counted(len(names), noun)} of run {run_id} {status} in {call.coord.path}", err=True)
    if not written.all:
        click.echo("nothing to write back", err=True)
    if written.refused:
        click.get_current_context().exit(NotAllowed.exit_code)


COLUMNS = ("wave", "state", "repos", "checks", "took", "work", "expected", "why")


def print_waves(waves: Sequence[WaveView]) -> None:
    """Print a line for each wave."""
    rows = (_cells(wave) for wave in waves)
    print_table(COLUMNS, [(number, status_cell(state), *rest) for number, state, *rest in rows])


def as_markdown(run: RunView) -> str:
    """Return a report: a table of the waves, and a section for each wave."""
    return "".join(f"{line}\n" for line in _report(run))


def _report(run: RunView) -> Iterator[str]:
    landed = sum(wave.state is WaveState.LANDED for wave in run.waves)
    yield f"# {_escaped(run.plan_id)}: {landed} of {len(run.waves)} waves have landed"
    yield ""
    yield f"Run {run.run_id}, {run.status}, started {format_time(run.started_at)}."
    yield ""
    yield from _table(COLUMNS, (_cells(wave) for wave in run.waves))
    for wave in run.waves:
        yield f"\n## Wave {wave.number}: {wave.state}\n"
        yield from _table(("repository", "landing"), wave.repos.items())
        if wave.failures:
            yield "\nFailures:\n"
            yield from (f"* {_escaped(one.todo)}: {_escaped(one.error or 'failed')}" for one in wave.failures)
        if wave.carried_over:
            yield f"\nCarried over: {_escaped(', '.join(wave.carried_over))}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|" + " --- |" * len(columns)
    for row in rows:
        yield f"| {' | '.join(map(_escaped, row))} |"


def _cells(wave: WaveView) -> tuple[str, ...]:
    why = wave.waits_for or next((one.error for one in wave.failures if one.error), None) or ""
    return (
        str(wave.number),
        wave.state,
        ", ".join(f"{repo} ({state})" for repo, state in wave.repos.items()),
        ", ".join(f"{n} {state}" for state, n in wave.checks.items()),
        _took(wave),
        how_long(timedelta(seconds=wave.work_s)) if wave.work_s else "",
        "" if wave.expected_s is None else how_long(timedelta(seconds=wave.expected_s)),
        why.partition("\n")[0],
    )


def _took(wave: WaveView) -> str:
    if wave.started_at is None or wave.finished_at is None:
        return ""
    return how_long(datetime.fromisoformat(wave.finished_at) - datetime.fromisoformat(wave.started_at))


def _escaped(text: str) -> str:
    """Return text for a cell: no line breaks, control characters or Markdown that it could end."""
    return spelled(" ".join(text.split())).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
