"""`dep check`: the checks of dependencies, with a bar, and their findings."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from coordination.api import Outcome
from coordination.cli.completion import listed as listed_names
from coordination.cli.completion import repo_names
from coordination.cli.context import CliContext
from coordination.cli.options.values import parts
from coordination.cli.screen.output import Form, output_options
from coordination.cli.screen.tables import print_none, print_table, status_cell
from coordination.errors import ExitCode
from coordination.models import Dependency, DependencyStatus, DependencyType
from coordination.terminal import driven, spelled
from coordination.text import listed

if TYPE_CHECKING:
    from coordination.api import DependencyReport


class CheckedLine(Outcome):
    """A line of `dep check`: an outcome with its dependency."""

    consumer: str
    provider: str
    type: DependencyType


@click.option(
    "--consumer",
    "consumers",
    metavar="CONSUMER,…",
    multiple=True,
    callback=parts,
    help="Select dependencies of these consumers.",
    shell_complete=listed_names(repo_names),
)
@output_options(CheckedLine)
def check(call: CliContext, values: dict[str, Any], *, form: Form, consumers: tuple[str, ...] | None) -> int:
    """With CONSUMER: only its dependencies. Ctrl-C ends all checks and writes nothing. Exit code 3: a
    dependency is unsatisfied, or constraints contradict each other.
    """
    manager, write = call.coord.manager, values.pop("write", True)
    wanted = (*values.pop("consumer", ()), *(consumers or ())) or None
    every = {d.id: d for d in manager.list_dependencies(consumer=wanted, type=values.get("type"))}
    _end_as_by_ctrl_c()
    dep = values.get("ids")
    with _bar(len(every.keys() & set(dep)) if dep else len(every)) as on_outcome:
        report = manager.check_dependencies(wanted, **values, on_outcome=on_outcome, write=False)
    try:
        report = manager.write_outcomes(report) if write else report
    finally:  # show the findings even if a file cannot be written
        form.records(list(_lines(report, every)), lambda: _print(report, every), data=report)
        if form.template is not None:
            _print_findings(report, err=True)
    return ExitCode.SUCCESS if report.good else ExitCode.FAILED


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
        print_none("no dependency matches", "create one: coord dep create")
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
