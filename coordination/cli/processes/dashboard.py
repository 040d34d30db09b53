"""`dashboard`, `open`: pages for people, the tokens with which they sign in, and the browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from rich_click import RichGroup

from coordination.api import DASHBOARD_PORT, dashboard_is_installed
from coordination.cli.context import CliContext, despite_quiet
from coordination.cli.groups import command
from coordination.cli.options.filters import listen_option, parse
from coordination.cli.screen.output import Form, as_json_option, output_options, print_json
from coordination.cli.screen.tables import print_none, print_table
from coordination.cli.times import format_time
from coordination.errors import CoordinationError, NotFound, UsageError
from coordination.text import install_extra

if TYPE_CHECKING:
    from coordination.dashboard.access import Tokens

_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")


@dataclass(frozen=True, kw_only=True)
class TokenView:
    """A line of `dashboard token list`."""

    person: str
    since: str
    read_only: bool


@click.group(cls=RichGroup, invoke_without_command=True)
@listen_option(DASHBOARD_PORT)
@click.option(
    "--prefix", metavar="PATH", default="", help="The path below which a proxy serves it, like /coord."
)
@click.pass_context
def dashboard(context: click.Context, listen: str, prefix: str) -> None:
    """Serve pages for people, in the foreground: what runs, what waits for whom, what failed.

    Each person signs in with a token: coord dashboard token add PERSON. Where this machine has a trust file,
    PERSON is a name in it, and the roles there say what the person may do.
    """
    if context.invoked_subcommand is None:
        _serve(context.ensure_object(CliContext), listen, prefix)


def _serve(call: CliContext, text: str, prefix: str) -> None:
    if not dashboard_is_installed():
        raise CoordinationError(
            "coord dashboard needs Starlette, Uvicorn and Jinja2, which are not all installed",
            install_extra("web"),
        )
    if not _PREFIX.fullmatch(prefix):
        raise UsageError(f"--prefix {prefix} is no path", "write it like /coord, without a slash at its end")
    from coordination.api import Address, context_for, listen
    from coordination.dashboard.app import Dashboard
    from coordination.dashboard.server import serve
    from coordination.dashboard.snapshots import Snapshots

    host, port = parse("--listen", text)
    at, settings = Address(host=host, port=port), call.coord.settings
    tls = context_for(at, settings)
    listening = listen(at)
    tokens = _tokens(call)
    made = Dashboard(Snapshots(call.coord.path, call.redis), tokens, prefix=prefix, secure=settings.tls_proxy)
    with despite_quiet():
        click.echo(f"dashboard  {'https' if tls else 'http'}://{at}{prefix}/", err=True)
        if not tokens.list():
            click.echo("  nobody can sign in yet: coord dashboard token add PERSON", err=True)
        if at.open_to_others and tls is None:
            click.echo("  not encrypted: tls_proxy says that a proxy in front of it does that", err=True)
    serve(made, listening, proxies=settings.gateway_proxies, tls=tls)


def _tokens(call: CliContext) -> Tokens:
    from coordination.dashboard.access import Tokens

    return Tokens(call.coord.state)


@dashboard.group(cls=RichGroup, no_args_is_help=True)
def token() -> None:
    """Give people tokens with which they sign in at the dashboard; only hashes are stored."""


@command(group=token)
@click.argument("person")
@click.option("--read-only", is_flag=True, help="The person may look and not act, whatever the roles say.")
@as_json_option
@click.pass_obj
def add(call: CliContext, person: str, read_only: bool, as_json: bool) -> None:
    """Print a new token of PERSON once; an older one ends, with its sessions."""
    call.coord.authority.check("credential")
    made = _tokens(call).add(person, read_only=read_only)
    if as_json:
        print_json({"person": person, "token": made, "read_only": read_only})
    else:
        click.echo(made)
    click.echo(f"token of {person}, shown once: it is asked for by the page for signing in", err=True)


@command(group=token, name="list")
@output_options(TokenView)
@click.pass_obj
def list_(call: CliContext, form: Form) -> None:
    """List the people who have a token."""
    found = [
        TokenView(
            person=one.person,
            since=datetime.fromtimestamp(one.since, UTC).isoformat(timespec="seconds"),
            read_only=one.read_only,
        )
        for one in _tokens(call).list()
    ]

    def show() -> None:
        if not found:
            print_none("nobody has a token", "make one: coord dashboard token add PERSON")
            return
        rows = [(one.person, format_time(one.since), "reading" if one.read_only else "") for one in found]
        print_table(("person", "since", "only"), rows)

    form.records(found, show)


@command(group=token)
@click.argument("person")
@as_json_option
@click.pass_obj
def revoke(call: CliContext, person: str, as_json: bool) -> None:
    """Revoke the token of PERSON; the sessions of the person end."""
    call.coord.authority.check("credential")
    _tokens(call).revoke(person)
    if as_json:
        print_json({"person": person})
    click.echo(f"token of {person} revoked", err=True)


@command(name="open")
@click.argument("name", required=False, metavar="[RUN|PLAN]")
@click.option("--url", metavar="URL", help="The address of the dashboard (default: that of coord up).")
@click.option("--print", "only_print", is_flag=True, help="Print the address; open nothing.")
@click.pass_obj
def open_(call: CliContext, name: str | None, url: str | None, only_print: bool) -> None:
    """Open the dashboard in the browser: the page Now, or that of a run or a plan."""
    from urllib.parse import quote

    base = (url or call.coord.local.dashboard_url() or "").rstrip("/")
    if not base:
        raise NotFound("no dashboard runs here", "start it: coord up; or name its address: --url URL")
    page = f"{base}{_page(call, name, quote)}"
    click.echo(page)
    if not only_print and click.launch(page) != 0:
        raise CoordinationError("no browser could be started", f"open it yourself: {page}")


def _page(call: CliContext, name: str | None, quote: Callable[[str], str]) -> str:
    if name is None:
        return "/"
    if call.coord.has_file and any(plan.id == name for plan in call.coord.manager.list_plans()):
        return f"/record?id={quote(name)}"
    return f"/run?id={quote(call.coord.runs.get(name).id)}"
