"""`steps`: the library of Redis Functions that coord calls."""

from __future__ import annotations

import click
from rich_click import group

from coordination.api.machine import load_steps
from coordination.cli.context import CliContext
from coordination.cli.screen.output import as_json_option, print_json


@group()
def steps() -> None:
    """Load the steps of coord, a library of Redis Functions, into a Redis server."""


@steps.command()
@as_json_option
@click.pass_obj
def load(call: CliContext, as_json: bool) -> None:
    """Load the steps of this version, and delete those that were loaded more than 30 days ago by other
    versions.

    `coord up`, workers and the maintenance leader do this by themselves. A user with fewer rights needs it
    done once for each version of coord: by a user with the role keeper, or by an administrator of the server.
    """
    digest, deleted = load_steps(call.coord)
    if as_json:
        print_json({"library": digest, "deleted": deleted})
        return
    click.echo(f"library {digest} is loaded")
    for name in deleted:
        click.echo(f"deleted {name}")
