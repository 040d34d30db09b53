"""`issue sync`: issues of the file and of the forges of their repositories."""

from __future__ import annotations

from collections.abc import Sequence

import click

from coordination.api import IssueAction, IssueResult, IssueSyncOptions, Side, texts
from coordination.cli.completion import repo_names
from coordination.cli.context import CliContext, despite_quiet
from coordination.cli.groups import command
from coordination.cli.screen.output import as_json_option, print_json
from coordination.cli.screen.tables import Cell, Column, plain, print_none, print_table
from coordination.text import counted, shortened

LONGEST = 60
"""Characters of a value that are shown; `--json` has all of them."""


@command("issues.sync")
@click.option(
    "--repo", "repos", multiple=True, metavar="REPO", shell_complete=repo_names,
    help=texts.SYNC_REPOS,
)  # fmt: skip
@click.option("--pull", is_flag=True, help=texts.PULL)
@click.option(
    "--prefer", type=click.Choice([side.value for side in Side]), default=Side.FILE.value, show_default=True,
    help=texts.PREFER,
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help=texts.DRY_RUN)
@as_json_option
@click.pass_obj
def sync_issues(
    call: CliContext, repos: tuple[str, ...], pull: bool, prefer: str, dry_run: bool, as_json: bool
) -> int:
    """Exit code 0: both sides are equal. Else that of the first failure."""
    options = IssueSyncOptions(repos=repos, pull=pull, prefer=Side(prefer), dry_run=dry_run)
    report = call.coord.issues.sync(options)
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        _print(report.results)
        _print_notes(report.results, report.not_pulled)
    return next((one.code for one in report.results if one.code), 0)


def _print(results: Sequence[IssueResult]) -> None:
    if not results:
        print_none("there is nothing to synchronise", "name a repository in `repos` of an issue; or: --pull")
        return
    names = ("ISSUE", "REPO", "FORGE", "DONE", "TO FORGE", "TO FILE")
    columns = [*(Column(name=name) for name in names), Column(name="TITLE", flexible=True)]
    print_table(columns, [_row(one) for one in results])


def _row(one: IssueResult) -> Sequence[object]:
    return (
        one.issue or "-",
        one.repo,
        one.forge or "-",
        Cell(one.action.replace("_", " "), "red" if one.action is IssueAction.FAILED else ""),
        ", ".join(one.to_forge) or "-",
        ", ".join(one.to_file) or "-",
        one.title,
    )


@despite_quiet()
def _print_notes(results: Sequence[IssueResult], not_pulled: int) -> None:
    for one in results:
        for conflict in one.conflicts:
            values = f"file {_quoted(conflict.file)}, forge {_quoted(conflict.forge)}"
            words = f"conflict: {one.issue}: {conflict.field}: {values}; kept: {conflict.kept}"
            click.echo(plain(words), err=True)
        if one.error:
            lines = one.error.replace("\n", "\n  ")
            click.echo(plain(f"error: {one.issue or one.repo}: {lines}"), err=True)
    if not_pulled:
        words = (
            f"note: {counted(not_pulled, 'open issue')} of the forge not in the file: coord issue sync --pull"
        )
        click.echo(plain(words), err=True)


def _quoted(value: str) -> str:
    return f'"{shortened(" ".join(value.split()), LONGEST)}"'
