"""`identity init`, `identity show`, `trust break-glass`, and output of `trust verify`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from coordination.api.trust import IdentityView, Verification
from coordination.cli.context import CliContext, warn
from coordination.cli.screen.output import as_json_option, print_json
from coordination.cli.times import format_time
from coordination.text import counted


@click.option(
    "--ssh-key",
    metavar="PATH|agent",
    help="Sign with an SSH key that you have: its file, `agent`, or `agent:SHA256:…`.",
)
@as_json_option
def init(call: CliContext, values: Mapping[str, Any], *, ssh_key: str | None, as_json: bool) -> None:
    """With --ssh-key an SSH key is used instead. COORD_IDENTITY names the key of an agent or a service. The
    line for trust files is printed.
    """
    trust = call.coord.trust
    if ssh_key is not None:
        if values:
            raise click.UsageError("--name and --new-key are for keys of coord; an SSH key stays as it is")
        found, new = trust.choose_ssh_key(ssh_key), False
    else:
        found, new = trust.create_identity(**values)
        if not new:
            click.echo(f"{found.source} exists and is kept", err=True)
    _print_identity(found, as_json)


@click.option("--worker", is_flag=True, help="The key with which workers here sign results.")
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="State folder of the workers, with --worker (default: .coord next to the file).",
)
@as_json_option
def show(call: CliContext, _: Mapping[str, Any], *, worker: bool, state: Path | None, as_json: bool) -> None:
    """Give it to `coord trust add` on the machines with workers. With --worker: the key of the workers here,
    for `coord trust add LINE --kind worker` on the others.
    """
    if state is not None and not worker:
        raise click.UsageError("--state names the folder of workers; add --worker")
    trust = call.coord.trust
    _print_identity(trust.worker_identity(state) if worker else trust.identity(), as_json)


def _print_identity(found: IdentityView, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    click.echo(f"{found.fingerprint}, {found.source}", err=True)
    click.echo(found.line)


def print_verified(found: Verification) -> None:
    for warning in found.warnings:
        warn(warning)
    counts = f"{counted(found.principals, 'principal')}, {counted(found.keys, 'key')}"
    click.echo(f"{found.path} is valid: {counts}")


@click.option("--end", is_flag=True, help="Give up emergency access before its hour is over.")
@as_json_option
def break_glass(call: CliContext, values: Mapping[str, Any], *, end: bool, as_json: bool) -> None:
    if end == bool(values):
        raise click.UsageError("give either --reason TEXT or --end")
    if end:
        ended = call.coord.trust.end_break_glass()
        click.echo("emergency access has ended" if ended else "there is no emergency access", err=True)
        return
    found = call.coord.trust.break_glass(**values)
    if as_json:
        print_json(found)
        return
    click.echo(f"{found.name} has emergency access until {format_time(found.until)}, recorded as {found.id}")
    click.echo("give it up earlier: coord trust break-glass --end", err=True)
