"""`mcp`, `gateway`, `dashboard`: servers for AI agents, programs without Redis, and people."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coordination.api import DASHBOARD_PORT, dashboard_is_installed
from coordination.cli.command import HelpfulGroup, command
from coordination.cli.context import CliContext, despite_quiet, warn
from coordination.cli.options.values import listen_option, parse_address
from coordination.cli.screen.output import Form, as_json_option, output_options, print_json
from coordination.cli.screen.tables import print_none, print_table
from coordination.cli.times import format_time
from coordination.errors import CoordinationError, UsageError
from coordination.text import install_extra

if TYPE_CHECKING:
    from socket import socket
    from ssl import SSLContext

    from coordination.api import Address
    from coordination.dashboard.access import Tokens
    from coordination.gateway.access import Grant
    from coordination.mcp.selection import Selection


@command()
@click.option(
    "--http", metavar="[HOST:]PORT", help="Serve over HTTP (default: stdio); clients need the token."
)
@click.option("--config", is_flag=True, help="Print the entry for a client's configuration; serve nothing.")
@click.option(
    "--tools",
    metavar="NOUN,…|all",
    default="core",
    show_default=True,
    help="Serve all tools, or add those of these nouns to the core: run,service.",
)
@click.option("--read-only", is_flag=True, help="Serve only tools that change nothing.")
@click.pass_obj
def mcp(call: CliContext, http: str | None, config: bool, tools: str, read_only: bool) -> None:
    """Serve coord's operations as tools to AI agents, over the Model Context Protocol.

    A client starts the server and talks to it on standard input and output. Over HTTP the token is the
    setting mcp_token (COORD_MCP_TOKEN), or a new one that is printed once. The core has about twenty tools:
    records of the file, the sweep of a plan, its run, logs and forecast, and the history.
    """
    if importlib.util.find_spec("fastmcp") is None:
        raise CoordinationError("coord mcp needs FastMCP, which is not installed", install_extra("mcp"))
    if config:
        options = [*(["--tools", tools] if tools != "core" else []), *(["--read-only"] if read_only else [])]
        print_json({"mcpServers": {"coord": _over_http(call, http) if http else _over_stdio(call, options)}})
        return
    from coordination.mcp.selection import Selection

    selection = Selection(named=tools, read_only=read_only)
    if http:
        _serve_http(call, http, selection)
    else:
        _serve_stdio(call, selection)


def _serve_stdio(call: CliContext, selection: Selection) -> None:
    from coordination.mcp.server import over_stdio
    from coordination.mcp.session import Session

    if sys.stdin.isatty():
        click.echo(
            "MCP clients start this command; their configuration: coord mcp --config. Ctrl-C ends it",
            err=True,
        )
    over_stdio(Session(call.coord.path, call.redis), selection)


def _serve_http(call: CliContext, http: str, selection: Selection) -> None:
    from coordination.mcp.server import new_token, over_http, url_of
    from coordination.mcp.session import Session

    given = call.coord.settings.mcp_token
    at, tls, listening = _listen(call, "--http", http)
    token = given or new_token()
    with despite_quiet():
        click.echo(
            f"MCP  {url_of(at, tls=tls is not None)}  token {'as in mcp_token' if given else token}", err=True
        )
        _note_unencrypted(at, tls)
    over_http(Session(call.coord.path, call.redis), listening, token, tls, selection)


def _over_stdio(call: CliContext, options: Sequence[str]) -> Mapping[str, Any]:
    sibling = Path(sys.executable).with_name("coord")
    program = str(sibling) if sibling.exists() else shutil.which("coord") or "coord"
    entry = {"command": program, "args": ["mcp", "--ecosystem", str(call.coord.path.resolve()), *options]}
    # A client starts the server without the environment of this command, but with the same file: only an
    # address that the file does not declare is handed over.
    url = call.coord.settings.redis_url
    return {**entry, "env": {"COORD_REDIS_URL": url}} if url and url != _declared_url(call) else entry


def _declared_url(call: CliContext) -> str | None:
    declared: str | None = call.coord.document.ecosystem.settings.get("redis_url")
    return declared


def _over_http(call: CliContext, http: str) -> Mapping[str, Any]:
    from coordination.mcp.server import url_of

    token = call.coord.settings.mcp_token or "the token that coord mcp says"
    url = url_of(_address("--http", http), tls=call.coord.settings.tls_certificate is not None)
    return {"type": "http", "url": url, "headers": {"Authorization": f"Bearer {token}"}}


def _address(option: str, text: str) -> Address:
    from coordination.api import Address

    host, port = parse_address(option, text)
    return Address(host=host, port=port)


def _listen(call: CliContext, option: str, text: str) -> tuple[Address, SSLContext | None, socket]:
    """Return the address, its encryption and the socket that listens there. Raises UsageError."""
    from coordination.api import context_for, listen

    at = _address(option, text)
    tls = context_for(at, call.coord.settings)
    return at, tls, listen(at)


def _note_unencrypted(at: Address, tls: SSLContext | None) -> None:
    if at.open_to_others and tls is None:
        click.echo("  not encrypted: tls_proxy says that a proxy in front of it does that", err=True)


PORT = 8770


@dataclass(frozen=True, kw_only=True)
class GrantView:
    """A line of `gateway --list`."""

    recipient: str
    since: str
    topics: tuple[str, ...]


@command()
@listen_option(PORT)
@click.option(
    "--origin",
    "pages",
    multiple=True,
    metavar="URL",
    help="Allow browsers with this origin.",
)
@click.option("--grant", metavar="RECIPIENT", help="Print a new token once; an older one is revoked.")
@click.option(
    "--topics",
    multiple=True,
    metavar="PATTERN",
    help="Limit --grant to these topics, like a.* or a.** (default: all).",
)
@click.option("--revoke", metavar="RECIPIENT", help="Revoke a token and close its connection.")
@click.option("--list", "listing", is_flag=True, help="List the tokens.")
@output_options(GrantView)
@click.pass_obj
def gateway(
    call: CliContext,
    listen: str,
    pages: tuple[str, ...],
    grant: str | None,
    topics: tuple[str, ...],
    revoke: str | None,
    listing: bool,
    form: Form,
) -> None:
    """Serve messages over WebSocket to browsers and agents that have no Redis, in the foreground.

    A client shows the token of its recipient (agent:NAME, person:NAME …) as `Authorization: Bearer TOKEN`, or
    as subprotocols: `coord.v1, bearer.TOKEN`. Forges send webhooks to /webhooks/NAME, for each credential
    NAME with the purpose webhook.
    """
    if any(importlib.util.find_spec(name) is None for name in ("starlette", "uvicorn", "websockets")):
        raise CoordinationError(
            "coord gateway needs Starlette, Uvicorn and websockets, which are not all installed",
            install_extra("web"),
        )
    if (grant is not None) + (revoke is not None) + listing > 1:
        raise UsageError("--grant, --revoke and --list exclude each other", "use one of them")
    if form.template is not None and not listing:
        raise UsageError("--format is for --list", "coord gateway --list --format '{recipient}'")
    if topics and grant is None:
        raise UsageError(
            "--topics is for a new token",
            "name its recipient: coord gateway --grant RECIPIENT --topics PATTERN",
        )
    if grant is not None:
        _grant_gateway(call, grant, topics, as_json=form.as_json)
    elif revoke is not None:
        _revoke_gateway(call, revoke, as_json=form.as_json)
    elif listing:
        _list_gateway(call, form)
    else:
        _serve_gateway(call, listen, pages)


def _serve_gateway(call: CliContext, text: str, pages: tuple[str, ...]) -> None:
    from coordination.gateway.access import origin_of
    from coordination.gateway.app import open_gateway, serve

    origins = [origin_of(page) for page in pages]
    at, tls, listening = _listen(call, "--listen", text)
    made, limits = open_gateway(call.coord.redis_url, call.coord.settings, origins)
    with despite_quiet():
        click.echo(f"gateway  {'wss' if tls else 'ws'}://{at}/", err=True)
        _note_unencrypted(at, tls)
        try:
            for name in call.coord.credentials.names_for_webhooks():
                click.echo(f"webhooks {'https' if tls else 'http'}://{at}/webhooks/{name}", err=True)
        except CoordinationError as error:
            warn(f"no webhooks: {error}")
    serve(made, listening, limits, tls)


def _grant_gateway(call: CliContext, recipient: str, topics: tuple[str, ...], *, as_json: bool) -> None:
    from coordination.gateway.app import grant_token

    token = grant_token(call.coord, recipient, topics)
    if as_json:
        print_json({"recipient": recipient, "token": token})
    else:
        click.echo(token)
    click.echo(f"token of {recipient}, shown once; send it as: Authorization: Bearer TOKEN", err=True)


def _revoke_gateway(call: CliContext, recipient: str, *, as_json: bool) -> None:
    from coordination.gateway.app import revoke_token

    revoke_token(call.coord, recipient)
    if as_json:
        print_json({"recipient": recipient})
    click.echo(f"token of {recipient} revoked", err=True)


def _list_gateway(call: CliContext, form: Form) -> None:
    from coordination.gateway.app import list_tokens

    found = [
        GrantView(recipient=one.recipient, since=_moment(one), topics=one.topics)
        for one in list_tokens(call.coord)
    ]
    form.records(found, lambda: _print_grants(found))


def _print_grants(found: Sequence[GrantView]) -> None:
    if not found:
        print_none("no recipient has a token", "make one: coord gateway --grant RECIPIENT")
        return
    rows = [(one.recipient, format_time(one.since), ", ".join(one.topics)) for one in found]
    print_table(("recipient", "since", "topics"), rows)


def _moment(grant: Grant) -> str:
    return datetime.fromtimestamp(grant.since_ms / 1000, UTC).isoformat(timespec="seconds")


_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")


@dataclass(frozen=True, kw_only=True)
class TokenView:
    """A line of `dashboard token list`."""

    person: str
    since: str
    read_only: bool


@click.group(cls=HelpfulGroup, invoke_without_command=True)
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
        _serve_dashboard(context.ensure_object(CliContext), listen, prefix)


def _serve_dashboard(call: CliContext, text: str, prefix: str) -> None:
    if not dashboard_is_installed():
        raise CoordinationError(
            "coord dashboard needs Starlette, Uvicorn and Jinja2, which are not all installed",
            install_extra("web"),
        )
    if not _PREFIX.fullmatch(prefix):
        raise UsageError(f"--prefix {prefix} is no path", "write it like /coord, without a slash at its end")
    from coordination.dashboard.app import Dashboard, serve
    from coordination.dashboard.snapshots import Snapshots

    at, tls, listening = _listen(call, "--listen", text)
    settings = call.coord.settings
    tokens = _tokens(call)
    made = Dashboard(Snapshots(call.coord.path, call.redis), tokens, prefix=prefix, secure=settings.tls_proxy)
    with despite_quiet():
        click.echo(f"dashboard  {'https' if tls else 'http'}://{at}{prefix}/", err=True)
        if not tokens.list():
            click.echo("  nobody can sign in yet: coord dashboard token add PERSON", err=True)
        _note_unencrypted(at, tls)
    serve(made, listening, proxies=settings.gateway_proxies, tls=tls)


def _tokens(call: CliContext) -> Tokens:
    from coordination.dashboard.access import Tokens

    return Tokens(call.coord.state)


@click.group(cls=HelpfulGroup, no_args_is_help=True)
def token() -> None:
    """Manage the tokens with which people sign in at the dashboard. Only their hashes are stored."""


dashboard.add_command(token)


@command(group=token)
@click.argument("person")
@click.option("--read-only", is_flag=True, help="The person may look and not act, whatever the roles say.")
@as_json_option
@click.pass_obj
def add(call: CliContext, person: str, read_only: bool, as_json: bool) -> None:
    """Print a new token of PERSON, once. An older token and its sessions end."""
    from coordination.dashboard.access import add_token

    made = add_token(call.coord, person, read_only=read_only)
    if as_json:
        print_json({"person": person, "token": made, "read_only": read_only})
    else:
        click.echo(made)
    click.echo(f"{person} signs in at the dashboard with this token; it is not shown again", err=True)


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
        rows = [
            (one.person, format_time(one.since), "read-only" if one.read_only else "by role") for one in found
        ]
        print_table(("person", "since", "access"), rows)

    form.records(found, show)


@command(group=token)
@click.argument("person")
@as_json_option
@click.pass_obj
def revoke(call: CliContext, person: str, as_json: bool) -> None:
    """Revoke the token of PERSON; the sessions of the person end."""
    from coordination.dashboard.access import revoke_token

    revoke_token(call.coord, person)
    if as_json:
        print_json({"person": person})
    click.echo(f"token of {person} revoked", err=True)
