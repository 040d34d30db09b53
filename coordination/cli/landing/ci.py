"""`ci`: the quality checks of a CI job's checkouts, and their results in its words."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich_click import command

from coordination.api import CheckVerdict, CiJob, QaReport, annotations_of, summary_of, write_junit
from coordination.cli.completion import plan_ids, repo_names
from coordination.cli.context import CliContext
from coordination.cli.following.follow import start_and_follow
from coordination.cli.following.summary import SOME_FAILED
from coordination.cli.landing.qa import junit_option, print_report
from coordination.cli.screen.output import as_json_option, print_json
from coordination.errors import UsageError
from coordination.text import counted, listed

if TYPE_CHECKING:
    from coordination.api import Document, RunView
    from coordination.api.run import Run

GITLAB_REPORT = Path("coord-junit.xml")


@command()
@click.argument("plan", required=False, shell_complete=plan_ids)
@click.option(
    "--repo", "repos", multiple=True, metavar="REPO", shell_complete=repo_names,
    help="Check REPO; repeat it for more (default: those of PLAN, else all that have a checkout and checks).",
)  # fmt: skip
@junit_option
@as_json_option
@click.pass_obj
def ci(call: CliContext, plan: str | None, repos: tuple[str, ...], junit: Path | None, as_json: bool) -> int:
    """Run quality checks in a CI job: those of the repositories that are checked out, at the commits that are
    checked out. Without a Redis server of its own the job uses the embedded one.

    At GitHub the results are the summary of the job and annotations, too; at GitLab they are JUnit XML in
    coord-junit.xml, to be named under `artifacts: reports: junit`.

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
    """Keep GitHub's runner from obeying lines of the output as commands: some are text of repositories."""
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
    """Print commands for the runner; it wants paths below the job's folder."""
    here = Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd()).resolve()
    folders = {}
    for repo in document.ecosystem.repos:
        place = document.repo_path(repo)
        if place and place.resolve().is_relative_to(here):
            folders[repo.name] = place.resolve().relative_to(here).as_posix().removeprefix(".")
    for line in annotations_of(report, folders):
        click.echo(line, err=True)


def _append(file: Path, text: str) -> None:
    try:
        with file.open("a", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise UsageError(
            f"{file} cannot be written: {error.strerror}", "see GITHUB_STEP_SUMMARY; or unset it"
        ) from error
