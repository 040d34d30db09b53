"""`list-deps`, `create-dep`, `update-dep`, `delete-dep`, `check-deps`."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from coordination.api import Outcome
from coordination.cli.command import command
from coordination.cli.completion import dependency_ids, repo_names
from coordination.cli.context import CliContext
from coordination.cli.options.fields import DEPENDENCY
from coordination.cli.options.values import by_name, by_word, jobs_option
from coordination.cli.screen.output import Form, output_options
from coordination.cli.screen.tables import print_none, print_table, status_cell
from coordination.cli.tracker.edit_commands import creates, deletes, updates
from coordination.cli.tracker.lists import print_dependencies
from coordination.models import Dependency, DependencyStatus, DependencyType
from coordination.terminal import driven, spelled
from coordination.text import listed

if TYPE_CHECKING:
    from coordination.api import DependencyReport


@command("manager.list_dependencies")
@by_name("--consumer", "Select dependencies of this consumer.")
@by_name("--provider", "Select dependencies on this provider.")
@by_word("--type", DependencyType)
@by_word("--status", DependencyStatus)
@output_options(Dependency)
@click.pass_obj
def list_deps(call: CliContext, /, form: Form, **filters: Any) -> None:
    dependencies = call.coord.manager.list_dependencies(**filters)
    form.records(dependencies, lambda: print_dependencies(dependencies))


create_dep = creates("dependency", DEPENDENCY)
update_dep = updates("dependency", "DEP", DEPENDENCY, dependency_ids)
delete_dep = deletes("dependency", "DEP", dependency_ids, lambda manager, name: manager.get_dependency(name))


UNSATISFIED = 3


class CheckedLine(Outcome):
    """A line of `check-deps`: an outcome with its dependency."""

    consumer: str
    provider: str
    type: DependencyType


@command("manager.check_dependencies")
@click.argument("named", metavar="[CONSUMER]", required=False, shell_complete=repo_names)
@by_name("--consumer", "Select dependencies of these consumers.")
@by_name("--dep", "Select these dependencies.")
@by_word("--type", DependencyType)
@jobs_option("Run at most N checks at once (default: 8).")
@click.option("--no-write", is_flag=True, help="Do not write statuses into the file.")
@output_options(CheckedLine)
@click.pass_obj
def check_deps(
    call: CliContext,
    named: str | None,
    consumer: tuple[str, ...] | None,
    dep: tuple[str, ...] | None,
    type: tuple[str, ...] | None,
    jobs: int | None,
    no_write: bool,
    form: Form,
) -> int:
    """With CONSUMER: only its dependencies. Ctrl-C ends all checks and writes nothing. Exit code 3: a
    dependency is unsatisfied, or constraints contradict each other.
    """
    consumers = (*((named,) if named else ()), *(consumer or ())) or None
    every = {d.id: d for d in call.coord.manager.list_dependencies(consumer=consumers, type=type)}
    _end_as_by_ctrl_c()
    with _bar(len(every.keys() & set(dep)) if dep else len(every)) as on_outcome:
        report = call.coord.manager.check_dependencies(
            consumers, ids=dep, type=type, jobs=jobs, on_outcome=on_outcome, write=False
        )
    try:
        report = report if no_write else call.coord.manager.write_outcomes(report)
    finally:  # show the findings even if a file cannot be written
        form.records(list(_lines(report, every)), lambda: _print(report, every), data=report)
        if form.template is not None:
            _print_findings(report, err=True)
    return 0 if report.good else UNSATISFIED


def _end_as_by_ctrl_c() -> None:
    """End on SIGTERM and SIGHUP as on Ctrl-C: the checks run in process groups of their own and must end,
    too. Ignored signals (nohup) stay ignored.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[Outcome], None] | None]:
    """Show a bar on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("checking"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(
        *columns, console=Console(file=driven(sys.stderr), highlight=False), transient=True
    ) as progress:
        bar = progress.add_task("", total=total)
        yield lambda outcome: progress.update(
            bar, advance=1, description=spelled(f"{outcome.id} {outcome.status}")
        )


def _print(report: DependencyReport, known: Mapping[str, Dependency]) -> None:
    if not report.outcomes:
        print_none("no dependency matches", "create one: coord create-dep")
        return
    rows = [
        (
            line.id,
            status_cell(line.status),
            line.consumer,
            line.provider,
            line.type,
            f"{line.duration_s:.1f} s",
            line.why,
        )
        for line in _lines(report, known)
    ]
    print_table(("DEP", "STATUS", "CONSUMER", "PROVIDER", "TYPE", "TOOK", "WHY"), rows)
    _print_findings(report)


def _lines(report: DependencyReport, known: Mapping[str, Dependency]) -> Iterator[CheckedLine]:
    for outcome in report.outcomes:
        declared = known[outcome.id]
        yield CheckedLine(
            **dict(outcome), consumer=declared.consumer, provider=declared.provider, type=declared.type
        )


def _print_findings(report: DependencyReport, *, err: bool = False) -> None:
    for contradiction in report.contradictions:
        click.echo(f"contradiction: {contradiction}", err=err)
    for cycle in report.cycles:
        click.echo(f"cycle: {cycle}", err=err)
    click.echo(_summary(report), err=True)


def _summary(report: DependencyReport) -> str:
    """Return `3 checked: 1 satisfied, 2 unknown; written: DEP-1`."""
    counts = Counter(outcome.status for outcome in report.outcomes)
    text = ", ".join(f"{counts[status]} {status}" for status in DependencyStatus if counts[status])
    written = f"; written: {listed(report.written)}" if report.written else ""
    kept = "\n  unknown: could not be checked here; the file keeps the earlier status"
    return (
        f"{len(report.outcomes)} checked: {text}{written}{kept if counts[DependencyStatus.UNKNOWN] else ''}"
    )
