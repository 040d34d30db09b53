"""Where things stand: of one repository, what holds it up, and of everything."""

from __future__ import annotations

from collections.abc import Iterable

import click
from rich_click import command

from coordination.cli.completing import repo_names
from coordination.cli.context import Call
from coordination.cli.desk.overviews import blocking_overview, ecosystem_overview, repo_overview
from coordination.cli.live import asking, messages_for
from coordination.cli.screen.blocks import Lines, print_page
from coordination.cli.screen.output import print_json
from coordination.cli.screen.shown import as_json_option

the_repo = click.argument("repo", shell_complete=repo_names)


@command()
@the_repo
@as_json_option
@click.pass_obj
def status(call: Call, repo: str, as_json: bool) -> None:
    """Show where REPO stands: what is worked on, ready and blocked there, its issues, plans and dependencies."""
    found = call.manager.get_repo_status(repo)
    _say(found, repo_overview(found, 0 if as_json else messages_for(call, repo)), as_json=as_json)


@command()
@the_repo
@as_json_option
@click.pass_obj
def blocking(call: Call, repo: str, as_json: bool) -> None:
    """Show the open issues that hold up work in REPO, directly or at the end of a chain."""
    found = call.manager.get_blocking_issues(repo)
    if not found and not as_json:
        click.echo(f"no open issue holds up work in {repo}", err=True)
        return
    _say(found, blocking_overview(found), as_json=as_json)


@command()
@as_json_option
@click.pass_obj
def ecosystem_status(call: Call, as_json: bool) -> None:
    """Show where everything stands: each repository, what is overdue, what holds up most, what may begin."""
    found = call.manager.get_ecosystem_status()
    _say(found, ecosystem_overview(found, () if as_json else asking(call)), as_json=as_json)


def _say(found: object, page: Iterable[Lines], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        print_page(*page)
