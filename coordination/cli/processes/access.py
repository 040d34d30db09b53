"""`acl`, `credential add`, `credential rotate`; output of `steps load` and `credential revoke`. No command
takes or prints a secret of a credential.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import click

from coordination.api import Credential
from coordination.api.credentials import Written
from coordination.api.machine import LoadedSteps, acl_line
from coordination.cli.command import command
from coordination.cli.context import CliContext, despite_quiet, warn
from coordination.cli.options.values import of_repos
from coordination.cli.screen.output import as_json_option, print_json
from coordination.errors import NotFound, UsageError

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


def print_loaded(found: LoadedSteps) -> None:
    click.echo(f"library {found.library} is loaded")
    for name in found.deleted:
        click.echo(f"deleted {name}")


@click.option("--all", "every", is_flag=True, help="Use it for all repositories.")
@as_json_option
def add(call: CliContext, values: Mapping[str, Any], *, every: bool, as_json: bool) -> None:
    if ("repos" in values) == every:
        raise UsageError(
            "a credential is for given repositories, or for all",
            f"name them: coord credential add {values['name']} REFERENCE --repo NAME …; or: --all",
        )
    _print_written(call.coord.credentials.add(**values), "added", as_json)


@as_json_option
def rotate(call: CliContext, values: Mapping[str, Any], *, as_json: bool) -> None:
    _print_written(call.coord.credentials.rotate(**values), "rotated", as_json)


def _print_written(written: Written, verb: str, as_json: bool) -> None:
    if written.unreadable:
        warn(f"it cannot be read in this process: {written.unreadable}")
    if as_json:
        print_json(written.credential)
        return
    click.echo(f"{verb} {written.credential.name}: {_scope(written.credential)}")


def print_revoked(removed: Credential) -> None:
    click.echo(f"revoked {removed.name}")
    click.echo(f"  where the secret was issued it is still valid: {removed.reference}", err=True)


def _scope(one: Credential) -> str:
    until = f", until {one.expires}" if one.expires else ""
    at = f" at {', '.join(one.hosts)}" if one.hosts else ""
    return f"{', '.join(one.purposes)} of {', '.join(one.repos) or 'all repositories'}{at}{until}"
