"""A circuit breaker is closed by hand."""

from __future__ import annotations

from contextlib import closing

import click
from rich_click import command

from coordination.backend.client import Profile, connect, reaching
from coordination.breakers.manager import BreakerManager
from coordination.cli.completing import breaker_names
from coordination.cli.context import CliContext
from coordination.cli.screen.output import print_json
from coordination.cli.screen.shown import as_json_option
from coordination.text import counted


@command()
@click.argument("name", shell_complete=breaker_names)
@as_json_option
@click.pass_obj
def reset_breaker(call: CliContext, name: str, as_json: bool) -> None:
    """Close the circuit breaker NAME (`repo:api`, `resource:db`, or as much of it as one alone has): its failures are
    forgotten, and the todos behind it go on.

    It is noted who did it: coord status.
    """
    from coordination.environment import actor

    url = call.redis_url()
    with (
        reaching(url),
        connect(url, Profile.COMMAND, call.settings.connect_timeout) as redis,
        closing(BreakerManager(redis, call.settings.namespace)) as breakers,
    ):
        redis.ping()
        was = breakers.reset(name, actor())
    if as_json:
        print_json(was)
    behind = f"; {counted(was.behind, 'todo')} behind it may go on" if was.behind else ""
    click.echo(f"{was.name} is closed; it was {was.state} after {was.reason}{behind}", err=True)
