"""`acl`, `steps`, `credential`: users and functions of a Redis server; references to secrets of this machine.
No command takes or prints a secret of a credential.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import click
from rich_click import RichGroup, group

from coordination.api import Credential, Expiry, Purpose, credentials
from coordination.api.credentials import Written
from coordination.api.machine import acl_line, load_steps
from coordination.cli.command import command
from coordination.cli.completion import credential_names
from coordination.cli.context import CliContext, despite_quiet, warn
from coordination.cli.options.values import of_repos
from coordination.cli.screen.output import Form, as_json_option, output_options, print_json
from coordination.cli.screen.tables import print_none, print_table
from coordination.cli.times import format_time
from coordination.declared import Cell
from coordination.errors import NotFound, UsageError
from coordination.models import parse_duration

if TYPE_CHECKING:
    from coordination.settings import Settings

NAME = re.compile(r"[A-Za-z0-9._-]+")
NAMES = "use letters, digits, dots, dashes and underscores"
SOMEWHERE = "redis://HOST:6379/0"


@command()
@click.option(
    "--role", type=click.Choice(["submitter", "worker", "keeper", "flower", "gateway"]), required=True
)
@of_repos("Let a worker serve this repository.")
@click.option(
    "--user", metavar="NAME", help="Set the name of the user (default: the role, with the repositories)."
)
@click.option(
    "--password-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Read the password from a file (default: a new one).",
)
@click.option("--default-off", is_flag=True, help="Print also the line that disables the default user.")
@click.pass_obj
def acl(
    call: CliContext,
    role: str,
    repos: tuple[str, ...],
    user: str | None,
    password_file: Path | None,
    default_off: bool,
) -> None:
    """Print the line of a Redis ACL file for one user. It needs Redis 7 or Valkey.

    Append it to the server's aclfile, then: redis-cli ACL LOAD. The file keeps a hash; a new password is
    shown once, on standard error.
    """
    settings = _settings(call)
    _check_names(role, repos)
    name = user or "-".join((role, *sorted(repos)))
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be a user's name", NAMES)
    password = _read_password(password_file) if password_file else secrets.token_urlsafe(24)
    if default_off:
        click.echo("user default off")
    click.echo(acl_line(settings, role, repos, name, password))
    if not password_file:
        _show_password(name, password, settings.redis_url or SOMEWHERE, restricted=role == "worker")


def _settings(call: CliContext) -> Settings:
    """Return the settings; those of the environment where there is no file."""
    from coordination.settings import read_settings

    try:
        return call.coord.settings
    except NotFound:
        return read_settings({}, {"redis_url": call.redis})


def _check_names(role: str, repos: tuple[str, ...]) -> None:
    if (role == "worker") != bool(repos):
        raise UsageError(
            "a worker's user is for given repositories, and only a worker's",
            "name them: coord acl --role worker --repo NAME …",
        )
    for name in repos:
        if not NAME.fullmatch(name):
            raise UsageError(f"{name!r} cannot be the name of a repository", NAMES)


def _read_password(file: Path) -> str:
    try:
        password = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read: {error.strerror}", "name a file that holds the password"
        ) from error
    if not password:
        raise UsageError(f"{file} holds no password", "write one into it, or leave --password-file out")
    return password


@despite_quiet()
def _show_password(name: str, password: str, url: str, *, restricted: bool) -> None:
    parts = urlsplit(url)
    there = parts.netloc.rpartition("@")[2]
    own = parts._replace(netloc=f"{quote(name)}:{quote(password, safe='')}@{there}").geturl()
    click.echo(f"the password of {name}, shown this once, in its address:\nCOORD_REDIS_URL={own}", err=True)
    if restricted:
        click.echo("COORD_RESTRICTED=true", err=True)


@group()
def steps() -> None:
    """Load the steps of coord into a Redis server. They are a library of Redis Functions."""


@command("machine.load_steps", group=steps)
@as_json_option
@click.pass_obj
def load(call: CliContext, as_json: bool) -> None:
    digest, deleted = load_steps(call.coord)
    if as_json:
        print_json({"library": digest, "deleted": deleted})
        return
    click.echo(f"library {digest} is loaded")
    for name in deleted:
        click.echo(f"deleted {name}")


STYLES = {Expiry.VALID: "", Expiry.SOON: "yellow", Expiry.EXPIRED: "red"}


@click.group(cls=RichGroup, no_args_is_help=True)
def credential() -> None:
    """Name secrets of this machine: for todos that list them under `secrets`, and for git.

    REFERENCE says where the secret is: env:NAME, file:PATH (mode 0600), keyring:SERVICE/NAME, or command:CMD,
    as in "command:gh auth token". The secret itself is never given to coord.
    """


def _last_day(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> date | None:
    """Convert the last day of a credential: a date, or a duration from today."""
    if text is None:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        try:
            after = parse_duration(text)
        except ValueError:
            after = None
        if not isinstance(after, timedelta):
            raise click.BadParameter(
                f"needs a date like 2027-01-31 or a duration like 90d, got {text!r}"
            ) from None
        try:
            day = (datetime.now(UTC) + after).date()
        except OverflowError:
            raise click.BadParameter(f"{text} is out of range") from None
    if day < datetime.now(UTC).date():
        raise click.BadParameter(f"{day} is in the past")
    return day


expires_option = click.option(
    "--expires",
    metavar="DAY",
    callback=_last_day,
    help="Use it up to this day: a date, or a duration like 90d (default: without end).",
)


@command("credentials.add", group=credential)
@click.argument("name")
@click.argument("reference")
@of_repos("Use it for this repository.")
@click.option("--all", "every", is_flag=True, help="Use it for all repositories.")
@click.option(
    "--purpose",
    "purposes",
    multiple=True,
    metavar="WORD",
    type=click.Choice([purpose.value for purpose in Purpose]),
    help="Use it for todo, read, write, pr, merge or webhook (default: todo).",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="HOST",
    help="Let coord give it only to this host, as in github.com (default: the hosts of the "
    "named repositories).",
)
@expires_option
@click.option("--replace", is_flag=True, help="Replace a credential of this name.")
@as_json_option
@click.pass_obj
def add(
    call: CliContext,
    name: str,
    reference: str,
    repos: tuple[str, ...],
    every: bool,
    purposes: tuple[str, ...],
    hosts: tuple[str, ...],
    expires: date | None,
    replace: bool,
    as_json: bool,
) -> None:
    """Git gets those for read and write, todos get them and those for todo; those for pr, merge and webhook
    stay in coord's own processes.
    """
    if bool(repos) == every:
        raise UsageError(
            "a credential is for given repositories, or for all",
            f"name them: coord credential add {name} REFERENCE --repo NAME …; or: --all",
        )
    added = credentials.add(
        call.coord,
        name,
        reference,
        repos=repos,
        purposes=[Purpose(word) for word in purposes] or [Purpose.TODO],
        hosts=hosts,
        expires=expires,
        replace=replace,
    )
    _print_written(added, "added", as_json)


@command("credentials.listing", group=credential, name="list")
@output_options(Credential)
def list_(form: Form) -> None:
    found = credentials.listing()
    form.records(found, lambda: _print(found))


@command("credentials.rotate", group=credential)
@click.argument("name", shell_complete=credential_names)
@click.argument("reference")
@expires_option
@as_json_option
@click.pass_obj
def rotate(call: CliContext, name: str, reference: str, expires: date | None, as_json: bool) -> None:
    _print_written(credentials.rotate(call.coord, name, reference, expires), "rotated", as_json)


@command("credentials.revoke", group=credential)
@click.argument("name", shell_complete=credential_names)
@as_json_option
@click.pass_obj
def revoke(call: CliContext, name: str, as_json: bool) -> None:
    removed = credentials.revoke(call.coord, name)
    if as_json:
        print_json(removed)
        return
    click.echo(f"revoked {name}")
    click.echo(f"  where the secret was issued it is still valid: {removed.reference}", err=True)


def _print_written(written: Written, verb: str, as_json: bool) -> None:
    if written.unreadable:
        warn(f"it cannot be read in this process: {written.unreadable}")
    if as_json:
        print_json(written.credential)
        return
    click.echo(f"{verb} {written.credential.name}: {_scope(written.credential)}")


def _scope(one: Credential) -> str:
    until = f", until {one.expires}" if one.expires else ""
    at = f" at {', '.join(one.hosts)}" if one.hosts else ""
    return f"{', '.join(one.purposes)} of {', '.join(one.repos) or 'all repositories'}{at}{until}"


def _print(found: Sequence[Credential]) -> None:
    if not found:
        print_none(
            "no credentials on this machine", "add one: coord credential add NAME REFERENCE --repo NAME"
        )
        return
    now = datetime.now(UTC)
    rows = [
        (
            one.name,
            one.reference,
            " ".join(one.repos) or "all",
            " ".join(one.purposes),
            Cell(_expiry(one, now), STYLES[one.expiry(now)]),
            format_time(one.last_used) or "never",
            f"rotates from {one.replaced}" if one.replaced else "",
        )
        for one in found
    ]
    print_table(["NAME", "REFERENCE", "REPOS", "PURPOSE", "EXPIRES", "LAST USED", ""], rows)


def _expiry(one: Credential, now: datetime) -> str:
    if one.expires is None:
        return "never"
    words = "" if one.expiry(now) is Expiry.VALID else f" ({one.expiry(now)})"
    return f"{one.expires}{words}"
