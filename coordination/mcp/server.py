"""Serves tools, resources and the prompt of one session until standard input closes, Ctrl-C or SIGTERM.

Afterwards only processes that a run needs are left running.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import os
import secrets
import signal
import socket
import ssl
from collections.abc import Iterator
from importlib.metadata import version
from types import FrameType
from typing import Any

import fastmcp
from fastmcp import FastMCP
from fastmcp.server.auth import AccessToken, TokenVerifier

from coordination.api import Address, http_limits
from coordination.mcp import resources
from coordination.mcp.declaration import declared
from coordination.mcp.middleware import Arguments, Roles
from coordination.mcp.session import Session
from coordination.mcp.tools import changes, coordination, generators, requests, runs, services, tracker

PATH = "/mcp"
MODULES = (tracker, generators, runs, changes, requests, services, coordination)
"""The modules of the tools, in their order."""


class OneToken(TokenVerifier):
    """Accepts one token; it permits every tool."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self._token = token.encode()

    async def verify_token(self, token: str) -> AccessToken | None:
        right = hmac.compare_digest(token.encode(), self._token)  # takes as long wherever they differ
        return AccessToken(token=token, client_id="coord", scopes=[]) if right else None


def new_token() -> str:
    return secrets.token_urlsafe(32)


def url_of(at: Address, *, tls: bool = False) -> str:
    return f"{'https' if tls else 'http'}://{at}{PATH}"


INSTRUCTIONS = """\
coord stores the issues, plans, todos and dependencies of many git repositories in one file, ecosystem.yaml,
and executes plans with workers.

Begin with coord_get_ecosystem_status, coord_list_plans and coord_list_todos. A todo belongs to one
repository. `blocked_by` orders todos, also across repositories. coord_forecast_plan estimates the duration
of a plan without starting it. coord_sweep_plan starts a run and returns at once. Follow the run with
coord_get_run(run=…, wait_s=60) until it ends; its succeeded todos are then marked as completed in the file.
Its commits are on branch coord/<plan> of each repository; coord_land_plan lands them. If a todo fails, read
coord_get_logs, correct the cause, and call coord_retry_run; coord_rollback_run undoes a run.
coord_send_message and coord_list_messages exchange messages with other agents and people. Each error names
the next step. If it names a command, such as `coord list-todos`, call the tool of the same name,
coord_list_todos, if there is one.
"""


def build(session: Session, auth: TokenVerifier | None = None) -> FastMCP:
    _calm()
    server = FastMCP(
        "coord",
        INSTRUCTIONS,
        version=version("coord"),
        auth=auth,
        middleware=[Roles(session), Arguments()],
        mask_error_details=True,
        on_duplicate="error",
    )
    for module in MODULES:
        for tool in declared(module, session):
            server.add_tool(tool)
    resources.add_resources(server, session)
    resources.add_prompts(server, session)
    return server


def _calm() -> None:
    """Log faults to standard error as plain lines, and nothing else; switch off the search for newer
    versions.
    """
    fastmcp.settings.telemetry_mode = "off"
    log = logging.getLogger("fastmcp")
    log.handlers = [logging.StreamHandler()]
    log.setLevel(logging.ERROR)


REQUEST_S = 10.0
"""Time limit for receiving a request, headers and body; an answer may take longer."""
CONNECTIONS = 100
"""Limit of connections; an agent has one or two."""
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def over_stdio(session: Session) -> None:
    """Serve until the client closes standard input. Meanwhile, printed text goes to standard error."""
    with _closed_at_the_end(session):
        try:
            build(session).run("stdio", show_banner=False)
        except* BrokenPipeError:  # the client was killed
            pass


def over_http(
    session: Session, listening: socket.socket, token: str, tls: ssl.SSLContext | None = None
) -> None:
    """Serve until a signal; open requests get two seconds. `tls`: None for plain HTTP."""
    limited: dict[str, Any] = {
        "http": http_limits(REQUEST_S, CONNECTIONS),
        "log_config": None,
        "access_log": False,
        "ssl_context_factory": None if tls is None else lambda *_: tls,
    }
    with _closed_at_the_end(session):
        build(session, OneToken(token)).run(
            "http",
            show_banner=False,
            path=PATH,
            sockets=[listening],
            host_origin_protection="auto",
            uvicorn_config=limited,
        )


@contextlib.contextmanager
def _closed_at_the_end(session: Session) -> Iterator[None]:
    """Close the session at the end. A signal ends the process at once: nothing else wakes the thread that
    waits for standard input.

    Clients hang up and send SIGTERM soon after: a close that has begun is finished.
    """
    closing = False

    def leave(_number: int, _frame: FrameType | None) -> None:
        for number in STOPS:
            signal.signal(number, signal.SIG_DFL)  # the next one leaves at once
        if not closing:
            session.close()
            os._exit(0)

    for number in STOPS:
        signal.signal(number, leave)
    try:
        yield
    finally:
        closing = True
        session.close()
