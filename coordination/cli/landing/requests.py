"""`pr open`, `pr fix`: the pull requests of change sets in the browser, and repaired by agents."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from coordination.cli.command import command
from coordination.cli.completion import change_sets, repo_names
from coordination.cli.context import CliContext
from coordination.cli.following.follow import start_and_follow
from coordination.cli.following.summary import format_work
from coordination.cli.operation_command import show
from coordination.cli.screen.output import Form, as_json_option
from coordination.cli.screen.tables import plain
from coordination.declared import find
from coordination.errors import CoordinationError, NotFound, UsageError
from coordination.operation_index import INDEX
from coordination.text import counted

if TYPE_CHECKING:
    from coordination.api import RepairResult, RunView
    from coordination.api.requests import PreparedFix
    from coordination.api.run import Run

MOST_OPENED = 20
FIX = "pr.fix"


@command()
@click.argument("plan", required=False, shell_complete=change_sets)
@click.argument("repo", required=False, shell_complete=repo_names)
@click.pass_obj
def open_pr(call: CliContext, plan: str | None, repo: str | None) -> None:
    """Open the pull requests of a plan, or of all plans, in the browser. Without a terminal, only print their
    addresses.
    """
    found = [change.request for _, change in call.coord.pr.refs(plan, repo) if change.request]
    urls = [ref.url for ref in found if urlsplit(ref.url).scheme in ("https", "http")]
    if not urls:
        raise NotFound("there is no such pull request", f"open them: coord pr create {plan or 'PLAN'}")
    for url in urls:
        click.echo(plain(url))
    if not sys.stdout.isatty():
        return
    if len(urls) > MOST_OPENED:
        raise UsageError(f"{len(urls)} pages are too many for a browser", "name a plan or a repository")
    started = [webbrowser.open(url) for url in urls]
    if not all(started):
        raise CoordinationError("no browser could be started", "open the addresses above yourself")


@as_json_option
def fix(call: CliContext, values: dict[str, Any], *, as_json: bool) -> int:
    """Exit code 0: it is repaired, or there is nothing to repair. 3: a repair failed."""
    requests, dry_run = call.coord.pr, values.pop("dry_run", False)
    found = requests.prepare_fix(**values, dry_run=dry_run)
    if dry_run:
        return show_repairs(found.results, as_json=as_json)
    results, code = repaired(call, found)
    return show_repairs(results, as_json=as_json) or code


def repaired(call: CliContext, found: PreparedFix) -> tuple[Sequence[RepairResult], int]:
    """Let agents repair requests, and follow their run; return the results and the exit code."""
    requests = call.coord.pr
    if not found.prompts:
        return requests.conclude_fix(found), 0
    results: Sequence[RepairResult] = ()

    def start() -> Run:
        run = requests.start_fix(found)
        repos = tuple(found.prompts)
        work = format_work(counted(len(repos), "repair"), repos, call.coord.runs.workplaces(repos))
        click.echo(f"run {run.id} of {found.plan}: {work}", err=True)
        return run

    def end(_: CliContext, __: Run, view: RunView, **___: Any) -> None:
        nonlocal results
        results = requests.conclude_fix(found, view)

    code = start_and_follow(call, start, detach=False, as_json=False, ending=end)
    return results, code


def show_repairs(results: Sequence[RepairResult], *, as_json: bool) -> int:
    """Print what was repaired; return the exit code."""
    return show(find(INDEX[FIX].part, FIX), results, Form(as_json=as_json))
