"""`run export`, `import`, `clean`: move runs to another Redis; remove what runs have left."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from coordination.api import LAST, Artifact, Kind, RunStatus, Survey, in_words
from coordination.cli.completion import run_ids
from coordination.cli.context import CliContext, confirm, despite_quiet, on_a_terminal, yes_option
from coordination.cli.following.summary import print_run
from coordination.cli.options.values import duration, output_file
from coordination.cli.screen.output import Form, as_json_option, output_options, print_json
from coordination.cli.screen.tables import print_none, print_table
from coordination.errors import Unreachable, UsageError
from coordination.terminal import spelled

WORDS = {
    Kind.WORKTREE: ("worktree", "worktrees"),
    Kind.BRANCH: ("branch", "branches"),
    Kind.LOGS: ("folder of logs", "folders of logs"),
    Kind.CARRIED: ("folder of transferred commits", "folders of transferred commits"),
}
UNITS = ("B", "kB", "MB", "GB", "TB")


class ArtifactLine(Artifact):
    """A line of `clean --dry-run`: an artifact with the status of its run."""

    status: str


@click.argument("runs", nargs=-1, metavar="[RUN]...", shell_complete=run_ids)
@click.option("--merged", is_flag=True, help="Select runs whose work is all in other branches.")
@click.option(
    "--unmerged",
    is_flag=True,
    help="Remove unmerged branches and uncommitted changes, too. Needed with --yes.",
)
@click.option(
    "--older-than", callback=duration, metavar="DURATION", help="Select runs that ended longer ago: 7d, 12h."
)
@click.option("--keep-branches", is_flag=True, help="Keep the branches coord/RUN.")
@click.option("--cache", is_flag=True, help="Empty the result cache, and nothing else.")
@click.option("--dry-run", is_flag=True, help="Print what would be removed; remove nothing.")
@yes_option
@output_options(ArtifactLine)
def clean(
    call: CliContext,
    _: Mapping[str, Any],
    *,
    runs: tuple[str, ...],
    merged: bool,
    unmerged: bool,
    older_than: timedelta | None,
    keep_branches: bool,
    cache: bool,
    dry_run: bool,
    yes: bool,
    form: Form,
) -> None:
    """Without RUN: of all ended runs. A branch with commits that its run did not record stays, and so does
    everything in use. With --yes, or without a terminal, --unmerged must be given to remove an unmerged
    branch or a worktree with uncommitted changes; else nothing is removed (exit code 6).
    """
    if cache:
        narrowed = merged or unmerged or older_than or keep_branches
        return _forget_results(call, alone=not (runs or narrowed or dry_run or form.wanted))
    if form.template is not None and not dry_run:
        raise UsageError("--format lists what would be removed", "add --dry-run")
    if merged and unmerged:
        raise UsageError("--merged and --unmerged exclude each other", "leave one of them out")
    if merged and keep_branches:
        raise UsageError("--merged and --keep-branches exclude each other", "leave one of them out")
    survey = call.coord.runs.survey(runs, merged=merged, older_than=older_than, branches=not keep_branches)
    if (yes or not on_a_terminal()) and not (dry_run or unmerged):
        survey.refuse_only_copies()
    if dry_run or not survey.removable:
        _print_survey(survey, form)
    else:
        if not yes:
            _confirm(survey)
        survey = call.coord.runs.clean(survey, branches=not keep_branches)
        _print_result(survey, as_json=form.as_json)
    if survey.silent:
        raise Unreachable(
            f"no answer from {', '.join(survey.silent)}: its artifacts were not examined or not removed",
            "see the log of that worker, then try again",
        )
    return None


def _forget_results(call: CliContext, *, alone: bool) -> None:
    """Empty the result cache without a question: results can be computed again."""
    if not alone:
        raise UsageError(
            "--cache empties the results of all runs, and takes no other option", "coord run clean --cache"
        )
    call.coord.runs.forget_results()
    click.echo("result cache emptied", err=True)


@despite_quiet()
def _confirm(survey: Survey) -> None:
    """Ask below the table, which is for a person."""
    if on_a_terminal():
        _print_found(survey)
    if survey.only_copies:
        click.echo(f"this deletes the only copy of: {in_words(survey.only_copies)}", err=True)
    confirm(f"Remove {_counted(survey.removable)}?", yes=False)


def _print_survey(survey: Survey, form: Form) -> None:
    lines = [ArtifactLine(status=survey.runs[one.run].status, **dict(one)) for one in survey.found]
    form.records(lines, lambda: _print_found(survey) if lines else _print_none(survey), data=_data(survey))
    _print_left(survey)


def _print_none(survey: Survey) -> None:
    if not survey.kept:
        print_none("ended runs have left nothing", "list the runs: coord list-runs")


def _print_result(done: Survey, *, as_json: bool) -> None:
    if as_json:
        print_json(_data(done))
    removed = [remnant for remnant in done.found if remnant.gone]
    for host in sorted({remnant.host for remnant in removed}):
        click.echo(f"removed on {host}: {_counted(r for r in removed if r.host == host)}", err=True)
    for one in (remnant for remnant in removed if remnant.kept):
        name = one.branch or f"run {one.run}"
        line = f"commits kept on {one.host}: those of {name} in {one.repo}, as {one.kept}"
        click.echo(spelled(line), err=True)
    for kept in (remnant for remnant in done.found if not remnant.gone):
        click.echo(
            f"kept on {kept.host}: the {kept.kind} of run {kept.run} {kept.path}: {kept.stays}", err=True
        )
    _print_left(done)


def _print_left(survey: Survey) -> None:
    if survey.kept:
        runs = len({r.run for r in survey.kept})
        what = "run is" if runs == 1 else "runs are"
        click.echo(f"{runs} {what} kept in all repositories because of {in_words(survey.kept)}", err=True)
    for host in survey.absent:
        click.echo(f"host {host}, which has artifacts of these runs, has no worker: they stay", err=True)


def _print_found(survey: Survey) -> None:
    rows = [
        (
            r.run,
            survey.runs[r.run].status,
            r.host,
            r.kind,
            r.repo,
            _size(r.bytes) if r.bytes else "",
            _remark(r),
        )
        for r in survey.found
    ]
    print_table(("run", "status", "host", "what", "repo", "size", "remark"), rows)


def _remark(remnant: Artifact) -> str:
    if remnant.stays:
        return f"stays: {remnant.stays}"
    return "unmerged" * remnant.unmerged + "uncommitted changes" * remnant.changed


def _data(survey: Survey) -> dict[str, object]:
    found = [{"status": survey.runs[r.run].status, **r.model_dump(mode="json")} for r in survey.found]
    kept = [r.model_dump(mode="json") for r in survey.kept]
    return {"found": found, "silent": survey.silent, "absent": survey.absent, "kept": kept}


def _counted(remnants: Iterable[Artifact]) -> str:
    remnants = list(remnants)
    counts = Counter(remnant.kind for remnant in remnants)
    text = [f"{counts[kind]} {WORDS[kind][counts[kind] > 1]}" for kind in Kind if counts[kind]]
    size = sum(remnant.bytes for remnant in remnants)
    return ", ".join(text) + (f" ({_size(size)})" if size else "")


def _size(size: float) -> str:
    for unit in UNITS:
        if size < 1000 or unit == UNITS[-1]:
            break
        size /= 1000
    return f"{size:.0f} {unit}"


@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False), callback=output_file)
def export(call: CliContext, values: Mapping[str, Any], *, file: Path | None) -> None:
    """Without FILE it is printed. For another Redis (`run import`) the run must have ended, or be paused with
    no running todo.
    """
    found, look = call.coord.runs.get(values.get("run", LAST)), values.get("look", False)
    if file is None:
        sys.stdout.writelines(found.document(to_import=not look))
    else:
        found.export(file, look=look)
        click.echo(f"wrote run {found.id} to {file}, {file.stat().st_size:,} bytes", err=True)
    _warn_of_copy(found.status(), look=look)


def _warn_of_copy(status: RunStatus, *, look: bool) -> None:
    if status is RunStatus.PAUSED and not look:
        click.echo("the run stays paused here: once it continues elsewhere, do not resume it here", err=True)


@as_json_option
def import_(call: CliContext, values: Mapping[str, Any], *, as_json: bool) -> None:
    """It continues on its hosts, or from the commits in the document."""
    run = call.coord.runs.import_(**values)
    run_id, view = run.id, run.view()
    if as_json:
        print_run(view, as_json=True)
    then = (
        f"continue it: coord run resume {run_id}"
        if view.status is RunStatus.PAUSED
        else f"look: coord show-run {run_id}"
    )
    click.echo(f"imported run {run_id} of {view.plan_id}, {view.status}; {then}", err=True)
