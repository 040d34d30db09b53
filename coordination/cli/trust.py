"""`identity`, `trust`: the key with which this user signs, and whom this machine trusts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from rich_click import RichGroup

from coordination.api.trust import IdentityView, KeyView, Kind, Role, Verification
from coordination.cli.command import command
from coordination.cli.completion import enum_values
from coordination.cli.context import CliContext, warn
from coordination.cli.options.values import duration, moment, of_repos
from coordination.cli.screen.output import Form, as_json_option, output_options, print_json
from coordination.cli.screen.tables import print_none, print_table
from coordination.cli.times import format_time
from coordination.declared import Column
from coordination.text import counted


def later(ctx: click.Context, parameter: click.Parameter, text: str | None) -> datetime | None:
    """Convert a date, a time, or a duration from now. Without a zone it is local time."""
    if text is None:
        return None
    try:
        datetime.fromisoformat(text)
    except ValueError:
        length = duration(ctx, parameter, text)
        return datetime.now(UTC) + (length or timedelta(0))
    return moment(ctx, parameter, text)


repo_option = of_repos("For this repository only (default: for all).")
ROLES, KINDS = click.Choice(list(map(str, Role))), click.Choice(list(map(str, Kind)))
role_argument = click.argument("role", type=ROLES, shell_complete=enum_values(Role))


@click.group(cls=RichGroup, no_args_is_help=True)
def identity() -> None:
    """Make and show the key with which you sign runs, approvals and other orders."""


@command("trust.create_identity", group=identity)
@click.option("--name", metavar="NAME", default="", help="Your name in trust files (default: user@host).")
@click.option("--new-key", is_flag=True, help="Make a new key in place of the present one, which is kept.")
@click.option(
    "--ssh-key",
    metavar="PATH|agent",
    help="Sign with an SSH key that you have: its file, `agent`, or `agent:SHA256:…`.",
)
@as_json_option
@click.pass_obj
def init(call: CliContext, name: str, new_key: bool, ssh_key: str | None, as_json: bool) -> None:
    """With --ssh-key an SSH key is used instead. COORD_IDENTITY names the key of an agent or a service. The
    line for trust files is printed.
    """
    trust = call.coord.trust
    if ssh_key is not None:
        if name or new_key:
            raise click.UsageError("--name and --new-key are for keys of coord; an SSH key stays as it is")
        found, new = trust.choose_ssh_key(ssh_key), False
    else:
        found, new = trust.create_identity(name, replace=new_key)
        if not new:
            click.echo(f"{found.source} exists and is kept", err=True)
    _print_identity(found, as_json)


@command("trust.identity", group=identity)
@click.option("--worker", is_flag=True, help="The key with which workers here sign results.")
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="State folder of the workers, with --worker (default: .coord next to the file).",
)
@as_json_option
@click.pass_obj
def show(call: CliContext, worker: bool, state: Path | None, as_json: bool) -> None:
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


@click.group(cls=RichGroup, no_args_is_help=True)
def trust() -> None:
    """Edit the trust file of this machine: the people and programs whose orders its workers execute.

    It is ~/.config/coord/trust.yaml, or COORD_TRUST_FILE.
    """


@command(group=trust)
@click.argument("line")
@click.option("--as", "name", metavar="NAME", default="", help="Name of its owner (default: the comment).")
@click.option("--kind", type=KINDS, help="Kind of the owner (default: person).")
@click.option("--role", "roles", multiple=True, type=ROLES, help="Give this role.")
@repo_option
@click.option(
    "--from", "valid_from", metavar="TIME", callback=later, help="Accept the key from this time on."
)
@click.option(
    "--until",
    "valid_until",
    metavar="TIME",
    callback=later,
    help="Accept the key until this time: a date, a time, or a duration from now (90d).",
)
@click.option("--another-key", is_flag=True, help="Add a further key of a principal that has one.")
@as_json_option
@click.pass_obj
def add(
    call: CliContext,
    /,
    line: str,
    name: str,
    kind: str | None,
    roles: tuple[str, ...],
    repos: tuple[str, ...],
    as_json: bool,
    **rest: Any,
) -> None:
    """Trust the owner of a key. LINE is the output of `coord identity show` there."""
    if repos and not roles:
        raise click.UsageError("--repo limits a role; name it with --role")
    added = call.coord.trust.edit(
        "add",
        lambda editor: editor.add(
            line,
            name,
            kind=Kind(kind) if kind else None,
            roles=[Role(role) for role in roles],
            repos=repos,
            **rest,
        ),
    )
    _print_changed(call, added.name, as_json)
    if not added.grants and added.kind is not Kind.WORKER:
        click.echo(f"{added.name} has no role yet: coord trust grant {added.name} ROLE", err=True)


@command("trust.list_keys", group=trust, name="list")
@output_options(KeyView)
@click.pass_obj
def list_(call: CliContext, form: Form) -> None:
    keys = call.coord.trust.list_keys()
    form.records(keys, lambda: _print_keys(keys))


@command(group=trust)
@click.argument("name", metavar="NAME|FINGERPRINT")
@as_json_option
@click.pass_obj
def revoke(call: CliContext, name: str, as_json: bool) -> None:
    """Revoke a key, or all keys of a principal. Their earlier signatures are refused, too."""
    changed = call.coord.trust.edit("revoke", lambda editor: editor.revoke(name, datetime.now(UTC)))
    _print_changed(call, changed.name, as_json)


@command(group=trust)
@click.argument("name")
@role_argument
@repo_option
@click.option(
    "--sandbox",
    type=click.Choice(["bubblewrap", "off"]),
    help="Run todos that are ordered by this role in a sandbox only, or not (default: unchanged).",
)
@as_json_option
@click.pass_obj
def grant(
    call: CliContext, name: str, role: str, repos: tuple[str, ...], sandbox: str | None, as_json: bool
) -> None:
    """Give a role to a principal: viewer, submitter, approver, operator or admin."""
    confined = None if sandbox is None else sandbox == "bubblewrap"
    changed = call.coord.trust.edit(
        "grant", lambda editor: editor.grant(name, Role(role), repos, sandbox=confined)
    )
    _print_changed(call, changed.name, as_json)


@command(group=trust)
@click.argument("name")
@role_argument
@repo_option
@as_json_option
@click.pass_obj
def ungrant(call: CliContext, name: str, role: str, repos: tuple[str, ...], as_json: bool) -> None:
    """Take a role from a principal."""
    changed = call.coord.trust.edit("ungrant", lambda editor: editor.ungrant(name, Role(role), repos))
    _print_changed(call, changed.name, as_json)


@command("trust.verify", group=trust)
@as_json_option
@click.pass_obj
def verify(call: CliContext, as_json: bool) -> None:
    found: Verification = call.coord.trust.verify()
    if as_json:
        print_json(found)
        return
    for warning in found.warnings:
        warn(warning)
    counts = f"{counted(found.principals, 'principal')}, {counted(found.keys, 'key')}"
    click.echo(f"{found.path} is valid: {counts}")


@command("trust.break_glass", group=trust, name="break-glass")
@click.option("--reason", metavar="TEXT", help="Say why; everybody sees it.")
@click.option("--end", is_flag=True, help="Give up emergency access before its hour is over.")
@as_json_option
@click.pass_obj
def break_glass(call: CliContext, reason: str | None, end: bool, as_json: bool) -> None:
    if end == (reason is not None):
        raise click.UsageError("give either --reason TEXT or --end")
    if reason is None:
        ended = call.coord.trust.end_break_glass()
        click.echo("emergency access has ended" if ended else "there is no emergency access", err=True)
        return
    found = call.coord.trust.break_glass(reason)
    if as_json:
        print_json(found)
        return
    click.echo(f"{found.name} has emergency access until {format_time(found.until)}, recorded as {found.id}")
    click.echo("give it up earlier: coord trust break-glass --end", err=True)


def _print_changed(call: CliContext, name: str, as_json: bool) -> None:
    rows = [row for row in call.coord.trust.list_keys() if row.name == name]
    if as_json:
        print_json(rows)
    else:
        _print_keys(rows)


def _print_keys(keys: list[KeyView]) -> None:
    if not keys:
        print_none(
            "nobody is trusted", 'trust somebody: coord trust add "$(coord identity show)" --role ROLE'
        )
        return
    columns: list[str | Column] = [
        "NAME",
        "KIND",
        "STATE",
        Column("ROLES", flexible=True),
        "FINGERPRINT",
    ]
    print_table(columns, [_row(key) for key in keys])


def _row(key: KeyView) -> tuple[str, ...]:
    state = key.state
    if key.state == "valid" and key.valid_until is not None:
        state = f"until {format_time(key.valid_until)}"
    return (key.name, key.kind, state, "; ".join(key.roles) or "-", key.fingerprint)
