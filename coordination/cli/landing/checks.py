"""`qa`, `show-qa` and `ci`: run the quality checks of repositories, and show their results."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from coordination.api import (
    LAST,
    CheckOptions,
    CheckVerdict,
    CiJob,
    QaReport,
    annotations_of,
    checks_in_words,
    summary_of,
    texts,
    write_junit,
)
from coordination.cli.command import command
from coordination.cli.completion import plan_ids, repo_names, run_ids
from coordination.cli.context import CliContext
from coordination.cli.following.follow import start_and_follow
from coordination.cli.following.summary import SOME_FAILED
from coordination.cli.options.values import detach_option, of_repos
from coordination.cli.screen.output import as_json_option, print_json
from coordination.cli.screen.tables import print_none, print_table
from coordination.errors import UsageError
from coordination.files import real_path
from coordination.models import CheckKind
from coordination.terminal import spelled
from coordination.text import counted, listed

if TYPE_CHECKING:
    from coordination.api import CheckView, Document, RunView
    from coordination.api.run import Run


SHOWN = 5
"""Failed tests that are shown of a check."""
MARKS = {CheckVerdict.GREEN: "✓", CheckVerdict.SKIPPED: "-", CheckVerdict.WAITING: "·"}

junit_option = click.option(
    "--junit",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the results to FILE as JUnit XML.",
)


@command("checks.run")
@click.argument("repos", nargs=-1, metavar="[REPO]...", shell_complete=repo_names)
@click.option("--plan", metavar="PLAN", shell_complete=plan_ids, help=texts.QA_PLAN)
@click.option("--run", metavar="RUN", shell_complete=run_ids, help=texts.QA_RUN)
@click.option("--base", is_flag=True, help=texts.QA_BASE)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice([kind.value for kind in CheckKind]),
    help="Run only checks of this kind (default: all kinds).",
)
@click.option("--no-cache", is_flag=True, help=texts.QA_NO_CACHE)
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
    """Without REPO, run those of all repositories that declare checks. Exit code 0: all are green. 2: a
    repository declares no check. 3: one is red, could not run, or was skipped.
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
            click.echo(f"· not checked, because they declare no check: {listed(ready.unchecked)}", err=True)
        return started

    def end(_call: CliContext, run: Run, _view: RunView, **_: object) -> None:
        report = checks.report(run.id).model_copy(update={"unchecked": ready.unchecked})
        code[0] = _show(report, junit, as_json=as_json)

    return start_and_follow(call, start, detach=detach, as_json=as_json, ending=end, code=lambda _: code[0])


@command("checks.report")
@click.argument("run", default=LAST, shell_complete=run_ids)
@junit_option
@as_json_option
@click.pass_obj
def show_qa(call: CliContext, run: str, junit: Path | None, as_json: bool) -> int:
    """Exit code 0: all are green. 3: one is not."""
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
        yield from (f"    | {line}" for line in check.output)
        if check.verdict not in (CheckVerdict.SKIPPED, CheckVerdict.WAITING):
            yield f"    see: {check.log}"


GITLAB_REPORT = Path("coord-junit.xml")


@command()
@click.argument("plan", required=False, shell_complete=plan_ids)
@of_repos("Check REPO (default: those of PLAN, else all that have a checkout and checks).")
@junit_option
@as_json_option
@click.pass_obj
def ci(call: CliContext, plan: str | None, repos: tuple[str, ...], junit: Path | None, as_json: bool) -> int:
    """Run quality checks in a CI job: those of the checked-out repositories, at their checked-out commits.
    Without a Redis server of its own, the job uses the embedded one.

    On GitHub, the results also become the summary and annotations of the job. On GitLab, they are written to
    coord-junit.xml as JUnit XML: name this file under `artifacts: reports: junit`.

    Exit code 0: all are green. 2: there is no checkout or no check. 3: one is red, could not run, or was
    skipped.
    """
    job, checks = CiJob.of(os.environ), call.coord.checks
    prepared = checks.make_ready(checks.prepare(checks.heads(repos, plan)))
    code, reports = [SOME_FAILED], list[QaReport]()

    def start() -> Run:
        started = checks.start(prepared)
        size = counted(len(prepared.graph.todos), "todo")
        click.echo(f"run {started.id} checks {listed(prepared.graph.repos)}: {size}", err=True)
        return started

    def end(_call: CliContext, run: Run, _view: RunView, **_: object) -> None:
        report = checks.report(run.id).model_copy(update={"unchecked": prepared.unchecked})
        file = junit or (GITLAB_REPORT if job.gitlab else None)
        if file:
            write_junit(report, file)
        if job.summary:
            _append(job.summary, summary_of(report))
        if as_json:
            print_json(report)
        else:
            print_report(report)
        reports.append(report)
        code[0] = 0 if report.verdict is CheckVerdict.GREEN else SOME_FAILED

    with _no_commands(job):
        done = start_and_follow(
            call, start, detach=False, as_json=as_json, ending=end, code=lambda _: code[0]
        )
    if job.github:
        for report in reports:
            _print_annotations(report, call.coord.document)
    return done


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
