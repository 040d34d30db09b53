"""`qa run|ci|show`: run the quality checks of repositories, and show their results."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coordination.api import (
    CheckOptions,
    CheckVerdict,
    CiJob,
    QaReport,
    annotations_of,
    checks_in_words,
    summary_of,
    write_junit,
)
from coordination.cli.context import CliContext
from coordination.cli.following.follow import start_and_follow
from coordination.cli.options.values import detach_option
from coordination.cli.screen.output import as_json_option, print_json
from coordination.cli.screen.tables import print_none, print_table
from coordination.errors import ExitCode, UsageError
from coordination.files import real_path
from coordination.states import mark_of
from coordination.terminal import spelled
from coordination.text import counted, listed

if TYPE_CHECKING:
    from coordination.api import CheckView, Document, PreparedChecks, RunView
    from coordination.api.run import Run


SHOWN = 5
"""Failed tests that are shown of a check."""

junit_option = click.option(
    "--junit",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the results to FILE as JUnit XML.",
)


@junit_option
@detach_option
@as_json_option
def run(
    call: CliContext, values: Mapping[str, Any], *, junit: Path | None, detach: bool, as_json: bool
) -> int:
    """Exit code 0: all are green. 2: a repository declares no check. 3: one is red, could not run, or was
    skipped.
    """
    prepared = call.coord.checks.prepare(CheckOptions(**values))

    def end(report: QaReport, shown: Collection[str]) -> int:
        return _show(report, junit, as_json=as_json, shown=shown)

    return _follow(call, prepared, prepared.subject, end, detach=detach, as_json=as_json)


def _follow(
    call: CliContext,
    prepared: PreparedChecks,
    subject: str,
    end: Callable[[QaReport, Collection[str]], int],
    *,
    detach: bool = False,
    as_json: bool = False,
) -> int:
    """Start a run of checks, follow it, and end with its report and the failed todos whose output was shown;
    return the exit code that this returns.
    """
    checks = call.coord.checks
    ready = checks.make_ready(prepared)
    code: list[int] = [ExitCode.FAILED]

    def start() -> Run:
        started = checks.start(ready)
        size = counted(len(ready.graph.todos), "todo")
        click.echo(f"run {started.id} checks {subject}: {size}", err=True)
        if ready.unchecked:
            click.echo(f"· not checked, because they declare no check: {listed(ready.unchecked)}", err=True)
        return started

    def ended(_call: CliContext, run: Run, _view: RunView, *, shown: Collection[str], **_: object) -> None:
        code[0] = end(checks.report(run.id).model_copy(update={"unchecked": ready.unchecked}), shown)

    return start_and_follow(call, start, detach=detach, as_json=as_json, ending=ended, code=lambda _: code[0])


@junit_option
@as_json_option
def show(call: CliContext, values: Mapping[str, Any], *, junit: Path | None, as_json: bool) -> int:
    """Exit code 0: all are green. 3: one is not."""
    report = call.coord.checks.report(**values)
    if not report.checks and not as_json:
        print_none(f"run {report.run_id} has no checks", "run some: coord qa run")
        return ExitCode.FAILED
    return _show(report, junit, as_json=as_json)


def _show(report: QaReport, junit: Path | None, *, as_json: bool, shown: Collection[str] = ()) -> int:
    if junit:
        write_junit(report, junit)
    if as_json:
        print_json(report)
    else:
        print_report(report, shown)
    return 0 if report.verdict is CheckVerdict.GREEN else ExitCode.FAILED


def print_report(report: QaReport, shown: Collection[str] = ()) -> None:
    """Print the checks, and why some are not green. `shown`: todos whose output was printed already."""
    columns = ("", "repo", "check", "verdict", "tests", "passed", "failed", "skipped", "seconds", "")
    print_table(columns, map(_row, report.checks))
    for line in _failures(report.checks, shown):
        click.echo(spelled(line))
    click.echo(f"run {report.run_id} of {spelled(report.plan_id)}: {checks_in_words(report.totals)}")


def _row(check: CheckView) -> tuple[object, ...]:
    bad = None if check.failed is None else check.failed + (check.errors or 0)
    note = "cached" if check.cached else "known before" if check.known else ""
    return (
        mark_of(check.verdict),
        check.repo,
        check.check or check.todo,
        check.verdict,
        *("-" if number is None else number for number in (check.total, check.passed, bad, check.skipped)),
        "" if check.duration_s is None else f"{check.duration_s:.1f}",
        note,
    )


def _failures(checks: Iterable[CheckView], shown: Collection[str]) -> Iterable[str]:
    for check in checks:
        if check.verdict is CheckVerdict.GREEN:
            continue
        yield f"{mark_of(check.verdict)} {check.repo} {check.check or check.todo}: {check.why}"
        for failure in check.failures[:SHOWN]:
            yield f"    {failure.name}" + (f": {failure.message}" if failure.message else "")
        if (more := len(check.failures) - SHOWN + check.unnamed) > 0:
            yield f"    and {more:,} more"
        yield from (f"    | {line}" for line in (() if check.todo in shown else check.output))
        if check.verdict not in (CheckVerdict.SKIPPED, CheckVerdict.WAITING):
            yield f"    see: {check.log}"


GITLAB_REPORT = Path("coord-junit.xml")


@junit_option
@as_json_option
def ci(call: CliContext, values: Mapping[str, Any], *, junit: Path | None, as_json: bool) -> int:
    """On GitHub, the results also become the summary and annotations of the job. On GitLab, they are written
    to coord-junit.xml as JUnit XML: name this file under `artifacts: reports: junit`.

    Exit code 0: all are green. 2: there is no checkout or no check. 3: one is red, could not run, or was
    skipped.
    """
    job, checks, reports = CiJob.of(os.environ), call.coord.checks, list[QaReport]()
    prepared = checks.prepare(checks.heads(**values))

    def end(report: QaReport, shown: Collection[str]) -> int:
        reports.append(report)
        if job.summary:
            _append(job.summary, summary_of(report))
        file = junit or (GITLAB_REPORT if job.gitlab else None)
        return _show(report, file, as_json=as_json, shown=shown)

    with _no_commands(job):
        code = _follow(call, prepared, listed(prepared.graph.repos), end, as_json=as_json)
    if job.github:
        for report in reports:
            _print_annotations(report, call.coord.document)
    return code


@contextmanager
def _no_commands(job: CiJob) -> Iterator[None]:
    """Keep GitHub's runner from executing lines of the output as commands: some are text of repositories."""
    if not job.github:
        yield
        return
    token = secrets.token_hex(16)
    click.echo(f"::stop-commands::{token}", err=True)
    try:
        yield
    finally:
        click.echo(f"::{token}::", err=True)


def _print_annotations(report: QaReport, document: Document) -> None:
    """Print annotations as commands for the runner, with paths relative to the folder of the job."""
    here = Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd()).resolve()
    folders = {}
    for repo in document.ecosystem.repos:
        place = document.repo_path(repo)
        if place and real_path(place).is_relative_to(here):
            folders[repo.name] = real_path(place).relative_to(here).as_posix().removeprefix(".")
    for line in annotations_of(report, folders):
        click.echo(line, err=True)


def _append(file: Path, text: str) -> None:
    try:
        with file.open("a", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise UsageError(
            f"{file} cannot be written: {error.strerror}", "correct or unset GITHUB_STEP_SUMMARY"
        ) from error
