"""Where things stand: of one repository, what holds it up, and of everything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click
from rich_click import command

from coordination.cli.completing import repo_names
from coordination.cli.context import CliContext
from coordination.cli.desk.breakers import breakers_named, breakers_shown, resets_shown
from coordination.cli.desk.overviews import blocking_overview, ecosystem_overview, repo_overview
from coordination.cli.live import asking, breaker_resets, breakers, messages_for
from coordination.cli.screen.blocks import Lines, print_page
from coordination.cli.screen.output import print_json
from coordination.cli.screen.shown import as_json_option

if TYPE_CHECKING:
    from coordination.breakers.records import Breaker

the_repo = click.argument("repo", shell_complete=repo_names)
RESETS_SHOWN = 5


@command()
@click.argument("repo", shell_complete=repo_names, required=False)
@as_json_option
@click.pass_obj
def status(call: CliContext, repo: str | None, as_json: bool) -> None:
    """Show where REPO stands: what is worked on, ready and blocked there, its issues, plans and dependencies.

    Without REPO, where everything stands, with the circuit breakers that are not closed, or have counted failures.
    """
    if repo is not None:
        _one(call, repo, as_json=as_json)
        return
    there = breakers(call)
    resets = () if as_json else breaker_resets(call, RESETS_SHOWN)
    _everything(call, there, breakers_shown(there), resets_shown(resets), as_json=as_json)


def _one(call: CliContext, repo: str, *, as_json: bool) -> None:
    found = call.manager.get_repo_status(repo)
    breaker = next((one for one in breakers(call) if one.name == f"repo:{repo}"), None)
    if as_json:
        print_json({**found.model_dump(mode="json"), "breaker": breaker})
    else:
        print_page(*repo_overview(found, messages_for(call, repo), breaker))


def _everything(call: CliContext, there: Sequence[Breaker], first: Lines, last: Lines = (), *, as_json: bool) -> None:
    found = call.manager.get_ecosystem_status()
    if as_json:
        print_json({**found.model_dump(mode="json"), "breakers": there})
    else:
        print_page(first, *ecosystem_overview(found, asking(call)), last)


@command()
@the_repo
@as_json_option
@click.pass_obj
def blocking(call: CliContext, repo: str, as_json: bool) -> None:
    """Show the open issues that hold up work in REPO, directly or at the end of a chain."""
    found = call.manager.get_blocking_issues(repo)
    if not found and not as_json:
        click.echo(f"no open issue holds up work in {repo}", err=True)
        return
    _say(found, blocking_overview(found), as_json=as_json)


@command()
@as_json_option
@click.pass_obj
def ecosystem_status(call: CliContext, as_json: bool) -> None:
    """Show where everything stands: each repository, what is overdue, what holds up most, what may begin."""
    there = breakers(call)
    _everything(call, there, breakers_named([one for one in there if one.tripped]), as_json=as_json)


def _say(found: object, page: Iterable[Lines], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        print_page(*page)
