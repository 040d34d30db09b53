"""`acl`, `steps`: the users of a Redis server, and the library of Redis Functions that coord loads there."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import click
from rich_click import group

from coordination.api.machine import acl_line, load_steps
from coordination.cli.completion import repo_names
from coordination.cli.context import CliContext, despite_quiet
from coordination.cli.groups import command
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
@click.option(
    "--repo",
    "repos",
    multiple=True,
    metavar="NAME",
    help="Let a worker serve this repository.",
    shell_complete=repo_names,
)
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
    _check(role, repos)
    name = user or "-".join((role, *sorted(repos)))
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be a user's name", NAMES)
    password = _read(password_file) if password_file else secrets.token_urlsafe(24)
    if default_off:
        click.echo("user default off")
    click.echo(acl_line(settings, role, repos, name, password))
    if not password_file:
        _show(name, password, settings.redis_url or SOMEWHERE, restricted=role == "worker")


def _settings(call: CliContext) -> Settings:
    """Return the settings; those of the environment where there is no file."""
    from coordination.settings import read_settings

    try:
        return call.coord.settings
    except NotFound:
        return read_settings({}, {"redis_url": call.redis})


def _check(role: str, repos: tuple[str, ...]) -> None:
    if (role == "worker") != bool(repos):
        raise UsageError(
            "a worker's user is for given repositories, and only a worker's",
            "name them: coord acl --role worker --repo NAME …",
        )
    for name in repos:
        if not NAME.fullmatch(name):
            raise UsageError(f"{name!r} cannot be the name of a repository", NAMES)


def _read(file: Path) -> str:
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
def _show(name: str, password: str, url: str, *, restricted: bool) -> None:
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
