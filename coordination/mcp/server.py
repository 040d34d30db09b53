"""The server: tools, resources and prompt over one session, until standard input closes, Ctrl-C or SIGTERM.

It leaves nothing running but what a run needs.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import os
import secrets
import signal
import socket
from collections.abc import Iterator
from importlib.metadata import version
from types import FrameType

import fastmcp
from fastmcp import FastMCP
from fastmcp.server.auth import AccessToken, TokenVerifier

from coordination.api import Address, http_limits
from coordination.mcp import resources
from coordination.mcp.declaration import declared
from coordination.mcp.errors import Arguments
from coordination.mcp.session import Session
from coordination.mcp.tools import coordination, runs, tracker

PATH = "/mcp"


class OneToken(TokenVerifier):
    """Accepts one token, which allows everything."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self._token = token.encode()

    async def verify_token(self, token: str) -> AccessToken | None:
        right = hmac.compare_digest(token.encode(), self._token)  # takes as long wherever they differ
        return AccessToken(token=token, client_id="coord", scopes=[]) if right else None


def new_token() -> str:
    return secrets.token_urlsafe(32)


def url_of(at: Address) -> str:
    return f"http://{at}{PATH}"


INSTRUCTIONS = """\
coord keeps one file, ecosystem.yaml, with the issues, plans, todos and dependencies of many git repositories, and executes
plans on workers.

Look first: coord_get_ecosystem_status, coord_list_plans, coord_list_todos. A todo belongs to one repository; `blocked_by`
puts todos in order, across repositories too. coord_forecast_plan shows what a sweep would take. coord_sweep_plan starts a run
and returns at once; coord_get_run(run=…, wait_s=60) follows it to its end, when what has succeeded is marked as completed in
the file; its work is on branch coord/<run_id> of each repository, to be merged. coord_get_logs shows why a todo
failed; coord_retry_run runs the rest after a fix, coord_rollback_run undoes what a run did. coord_send_message and coord_list_messages talk to others. Errors say what to do next; where they name a command (`coord list-todos`), the
tool of that name does it, if there is one (coord_list_todos).
"""


def build(session: Session, auth: TokenVerifier | None = None) -> FastMCP:
    _calm()
    server = FastMCP(
        "coord",
        INSTRUCTIONS,
        version=version("coord"),
        auth=auth,
        middleware=[Arguments()],
        mask_error_details=True,
        on_duplicate="error",
    )
    for module in (tracker, runs, coordination):
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
"""Limit until a request is complete, headers and body; an answer may take longer."""
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


def over_http(session: Session, listening: socket.socket, token: str) -> None:
    """Serve until a signal; open requests get two seconds."""
    limited = {"http": http_limits(REQUEST_S, CONNECTIONS), "log_config": None, "access_log": False}
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
