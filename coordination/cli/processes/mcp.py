"""`mcp`: coord for AI agents."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich_click import command

from coordination.cli.context import CliContext, aloud
from coordination.cli.options.filters import parse
from coordination.cli.screen.output import print_json
from coordination.errors import CoordinationError
from coordination.text import install_extra

if TYPE_CHECKING:
    from coordination.api import Address


@command()
@click.option(
    "--http", metavar="[HOST:]PORT", help="Serve over HTTP (default: stdio); clients need the token."
)
@click.option("--config", is_flag=True, help="Print the entry for a client's configuration; serve nothing.")
@click.pass_obj
def mcp(call: CliContext, http: str | None, config: bool) -> None:
    """Serve coord's operations as tools to AI agents, over the Model Context Protocol.

    A client starts the server and talks to it on standard input and output. Over HTTP the token is the
    setting mcp_token (COORD_MCP_TOKEN), or a new one that is printed once.
    """
    if importlib.util.find_spec("fastmcp") is None:
        raise CoordinationError("coord mcp needs FastMCP, which is not installed", install_extra("mcp"))
    if config:
        print_json({"mcpServers": {"coord": _over_http(call, http) if http else _over_stdio(call)}})
    elif http:
        _serve_http(call, http)
    else:
        _serve_stdio(call)


def _serve_stdio(call: CliContext) -> None:
    from coordination.mcp.server import over_stdio
    from coordination.mcp.session import Session

    if sys.stdin.isatty():
        click.echo(
            "MCP clients start this command; their configuration: coord mcp --config. Ctrl-C ends it",
            err=True,
        )
    over_stdio(Session(call.coord.path, call.redis))


def _serve_http(call: CliContext, http: str) -> None:
    from coordination.api import context_for, listen
    from coordination.mcp.server import new_token, over_http, url_of
    from coordination.mcp.session import Session

    given = call.coord.settings.mcp_token
    at = _address(http)
    tls = context_for(at, call.coord.settings)
    listening = listen(at)
    token = given or new_token()
    with aloud():
        click.echo(
            f"MCP  {url_of(at, tls=tls is not None)}  token {'as in mcp_token' if given else token}", err=True
        )
        if at.open_to_others and tls is None:
            click.echo("  not encrypted: tls_proxy says that a proxy in front of it does that", err=True)
    over_http(Session(call.coord.path, call.redis), listening, token, tls)


def _over_stdio(call: CliContext) -> Mapping[str, Any]:
    beside = Path(sys.executable).with_name("coord")
    program = str(beside) if beside.exists() else shutil.which("coord") or "coord"
    entry = {"command": program, "args": ["mcp", "--ecosystem", str(call.coord.path.resolve())]}
    # Clients start us without the environment of whoever asks now; what the file says is found again.
    url = call.coord.settings.redis_url
    return {**entry, "env": {"COORD_REDIS_URL": url}} if url and url != _declared_url(call) else entry


def _declared_url(call: CliContext) -> str | None:
    declared: str | None = call.coord.document.ecosystem.settings.get("redis_url")
    return declared


def _over_http(call: CliContext, http: str) -> Mapping[str, Any]:
    from coordination.mcp.server import url_of

    token = call.coord.settings.mcp_token or "the token that coord mcp says"
    url = url_of(_address(http), tls=call.coord.settings.tls_certificate is not None)
    return {"type": "http", "url": url, "headers": {"Authorization": f"Bearer {token}"}}


def _address(http: str) -> Address:
    from coordination.api import Address

    host, port = parse("--http", http)
    return Address(host=host, port=port)
