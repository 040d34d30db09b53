"""The repositories that the file declares."""

from __future__ import annotations

from typing import Any

import click
from rich_click import command

from coordination.cli.context import CliContext
from coordination.cli.desk.listing import print_repos
from coordination.cli.options.filters import by_name
from coordination.cli.screen.shown import Form, shown
from coordination.models import Repo


@command()
@by_name("--tag", "Only those with this tag.")
@by_name("--role", "Only those with this role.")
@shown(Repo)
@click.pass_obj
def list_repos(call: CliContext, /, form: Form, **filters: Any) -> None:
    """List the repositories that the file declares, with how many issues and todos are open there."""
    repos = call.manager.list_repos(**filters)
    form.records(repos, lambda: print_repos(repos, call.document))
