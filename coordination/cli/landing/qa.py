"""`qa` and `show-qa`: run the quality checks of repositories, and show their results."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich_click import command

from coordination.api import LAST, CheckOptions, CheckVerdict, checks_in_words, write_junit
from coordination.cli.completion import plan_ids, repo_names, run_ids
from coordination.cli.context import CliContext
from coordination.cli.following.follow import start_and_follow
from coordination.cli.following.summary import SOME_FAILED
from coordination.cli.landing.land import detach_option
from coordination.cli.screen.output import as_json_option, print_json
from coordination.cli.screen.tables import print_none, print_table
from coordination.models import CheckKind
from coordination.terminal import spelled
from coordination.text import counted, listed

if TYPE_CHECKING:
    from coordination.api import CheckView, QaReport, RunView
    from coordination.api.run import Run

SHOWN = 5
"""Failed tests that are shown of a check."""
MARKS = {CheckVerdict.GREEN: "✓", CheckVerdict.SKIPPED: "-", CheckVerdict.WAITING: "·"}

junit_option = click.option(
    "--junit",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the results to FILE as JUnit XML, too.",
)


@command()
@click.argument("repos", nargs=-1, metavar="[REPO]...", shell_complete=repo_names)
@click.option(
    "--plan", metavar="PLAN", shell_complete=plan_ids, help="Check the change set of PLAN: what it has made."
)
@click.option("--run", metavar="RUN", shell_complete=run_ids, help="Check the commits of RUN.")
@click.option("--base", is_flag=True, help="Check the base branches of the repositories of PLAN or RUN.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice([kind.value for kind in CheckKind]),
    help="Run only checks of this kind; may be repeated.",
)
@click.option("--no-cache", is_flag=True, help="Run all checks, also those that are known to be green.")
@junit_option
@detach_option
@as_json_option
@click.pass_obj
def qa(
    call: CliContext,
    repos: tuple[str, ...],
    plan: str | None,
    run: str | None,
    base: bool,
    kinds: tuple[str, ...],
    no_cache: bool,
    junit: Path | None,
    detach: bool,
    as_json: bool,
) -> int:
    """Run the checks that REPOs declare under `qa`, in dependency order: by default those of all
    repositories, on their base branches.

    Each check sees the same versions of the repositories that it needs. Where one of them is red, it is
    skipped. A green result is not run again while the files of the repository, and of those that it needs,
    are the same.

    Exit code 0: all are green. 2: a repository declares no check. 3: one is red, could not run, or was
    skipped.
    """
    checks = call.coord.checks
    prepared = checks.prepare(
        CheckOptions(
            repos=repos,
            plan=plan,
            run=run,
            base=base,
            kinds=tuple(map(CheckKind, kinds)),
            no_cache=no_cache,
        )
    )
    ready = checks.make_ready(prepared)
    code = [SOME_FAILED]

    def start() -> Run:
        started = checks.start(ready)
        size = counted(len(ready.graph.todos), "todo")
        click.echo(f"run {started.id} checks {ready.subject}: {size}", err=True)
        if ready.unchecked:
            click.echo(f"· without a check, so nothing is known: {listed(ready.unchecked)}", err=True)
        return started

    def end(_call: CliContext, run: Run, _view: RunView, **_: object) -> None:
        report = checks.report(run.id).model_copy(update={"unchecked": ready.unchecked})
        code[0] = _show(report, junit, as_json=as_json)

    return start_and_follow(call, start, detach=detach, as_json=as_json, ending=end, code=lambda _: code[0])


@command()
@click.argument("run", default=LAST, shell_complete=run_ids)
@junit_option
@as_json_option
@click.pass_obj
def show_qa(call: CliContext, run: str, junit: Path | None, as_json: bool) -> int:
    """Show the checks of RUN: verdicts, numbers of tests, and what failed. RUN may be a run of a plan, too.

    Exit code 0: all are green. 3: one is not.
    """
    report = call.coord.checks.report(run)
    if not report.checks and not as_json:
        print_none(f"run {report.run_id} has no checks", "run some: coord qa")
        return SOME_FAILED
    return _show(report, junit, as_json=as_json)


def _show(report: QaReport, junit: Path | None, *, as_json: bool) -> int:
    if junit:
        write_junit(report, junit)
    if as_json:
        print_json(report)
    else:
        print_report(report)
    return 0 if report.verdict is CheckVerdict.GREEN else SOME_FAILED


def print_report(report: QaReport) -> None:
    columns = ("", "repo", "check", "verdict", "tests", "passed", "failed", "skipped", "seconds", "")
    print_table(columns, map(_row, report.checks))
    for line in _failures(report.checks):
        click.echo(spelled(line))
    click.echo(f"run {report.run_id} of {spelled(report.plan_id)}: {checks_in_words(report.totals)}")


def _row(check: CheckView) -> tuple[object, ...]:
    bad = None if check.failed is None else check.failed + (check.errors or 0)
    note = "cached" if check.cached else "known before" if check.known else ""
    return (
        MARKS.get(check.verdict, "✗"),
        check.repo,
        check.check or check.todo,
        check.verdict,
        *("-" if number is None else number for number in (check.total, check.passed, bad, check.skipped)),
        "" if check.duration_s is None else f"{check.duration_s:.1f}",
        note,
    )


def _failures(checks: Iterable[CheckView]) -> Iterable[str]:
    for check in checks:
        if check.verdict is CheckVerdict.GREEN:
            continue
        yield f"{MARKS.get(check.verdict, '✗')} {check.repo} {check.check or check.todo}: {check.why}"
        for failure in check.failures[:SHOWN]:
            yield f"    {failure.name}" + (f": {failure.message}" if failure.message else "")
        if (more := len(check.failures) - SHOWN + check.unnamed) > 0:
            yield f"    and {more:,} more"
        if check.verdict not in (CheckVerdict.SKIPPED, CheckVerdict.WAITING):
            yield f"    see: {check.log}"
