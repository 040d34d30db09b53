"""`pr open`: the pull requests of change sets in the browser."""

from __future__ import annotations

import sys
import webbrowser
from urllib.parse import urlsplit

import click

from coordination.cli.command import command
from coordination.cli.completion import change_sets, repo_names
from coordination.cli.context import CliContext
from coordination.cli.screen.tables import plain
from coordination.errors import CoordinationError, NotFound, UsageError

MOST_OPENED = 20


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
