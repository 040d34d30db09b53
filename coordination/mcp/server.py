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
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import chain
from types import FrameType
from typing import Any

import fastmcp
from fastmcp import FastMCP
from fastmcp.exceptions import PromptError, ResourceError
from fastmcp.prompts import Prompt, PromptArgument
from fastmcp.server.auth import AccessToken, TokenVerifier
from pydantic_core import to_json

from coordination.api import (
    BEGINNING,
    Address,
    Event,
    http_limits,
    presentable_text,
)
from coordination.mcp.declaration import declared, refusals
from coordination.mcp.middleware import Arguments, Roles
from coordination.mcp.operation_tool import operation_tools
from coordination.mcp.selection import EVERY, Selection
from coordination.mcp.session import Session
from coordination.mcp.tools import changes, coordination, generators, runs

PATH = "/mcp"
MODULES = (generators, runs, changes, coordination)
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
repository. `blocked_by` orders todos, also across repositories. coord_plan_forecast estimates the duration
of a plan without starting it. coord_run_sweep starts a run and returns at once. Follow the run with
coord_run_show(run=…, wait_s=60) until it ends; its succeeded todos are then marked as completed in the file.
Its commits are on the branch of the plan in each repository; coord_plan_land lands them. If a todo fails,
read coord_run_logs, correct the cause, and call coord_run_retry; coord_run_rollback undoes a run.
coord_message_send and coord_message_list exchange messages with other agents and people. Each error names
the next step. If it names a command, such as `coord run list`, call the tool of the same name,
coord_run_list, if there is one. A server has a core of the tools unless it was started with
`coord mcp --tools all`.
"""


def build(session: Session, auth: TokenVerifier | None = None, selection: Selection = EVERY) -> FastMCP:
    _configure_logging()
    server = FastMCP(
        "coord",
        INSTRUCTIONS,
        version=version("coord"),
        auth=auth,
        middleware=[Roles(session), Arguments()],
        mask_error_details=True,
        on_duplicate="error",
    )
    made = chain.from_iterable(declared(module, session) for module in MODULES)
    for tool in selection.of([*made, *operation_tools(session)]):
        server.add_tool(tool)
    add_resources(server, session)
    add_prompts(server, session)
    return server


def _configure_logging() -> None:
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


def over_stdio(session: Session, selection: Selection) -> None:
    """Serve until the client closes standard input. Meanwhile, printed text goes to standard error."""
    with _closed_at_the_end(session):
        try:
            build(session, selection=selection).run("stdio", show_banner=False)
        except* BrokenPipeError:  # the client was killed
            pass


def over_http(
    session: Session,
    listening: socket.socket,
    token: str,
    tls: ssl.SSLContext | None,
    selection: Selection,
) -> None:
    """Serve until a signal; open requests get two seconds. `tls`: None for plain HTTP."""
    limited: dict[str, Any] = {
        "http": http_limits(REQUEST_S, CONNECTIONS),
        "log_config": None,
        "access_log": False,
        "ssl_context_factory": None if tls is None else lambda *_: tls,
    }
    with _closed_at_the_end(session):
        build(session, OneToken(token), selection).run(
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


ARGUMENTS = [  # FastMCP's own descriptions explain JSON, which these plain texts are not
    PromptArgument(name="change", description="Description of the change.", required=True),
    PromptArgument(
        name="repos", description="Limit the plan to these repositories, separated by commas (default: all)."
    ),
]
STEPS = """\
Follow these steps:
1. Find out which of these repositories the change affects, and read their code if you can.
2. Check for existing work, so that nothing is planned twice: coord_list_plans, coord_list_todos(repo=…),
   coord_get_blocking_issues(repo=…).
3. If no issue describes the change yet, create one with the affected repositories: coord_create_issue.
4. Split the work into todos. Each todo belongs to one repository, has acceptance criteria, and is small
   enough for one session of a person or an agent. Providers come before their consumers: see the
   dependencies above. If there is no plan for them yet, propose it with all of them: coord_propose_plan
   writes nothing, and says how the user does. Else:
5. Call coord_create_todo for each, in that order, with `plan`, `repo`, `task`, `estimated_hours`,
   `acceptance_criteria`, `blocked_by` (the ids of the todos that must be finished before), and `run` if a
   command does the work. Without a command, the configured agent does it.
6. Call coord_plan_forecast and show the order and the duration to the user. Only if the user agrees, call
   coord_run_sweep, then follow the run with coord_run_show.
"""


def add_prompts(server: FastMCP, session: Session) -> None:
    def plan_change(change: str, repos: str = "") -> str:
        """Plan a change across repositories as ordered todos, based on the declared repositories and
        dependencies.
        """
        with refusals(PromptError):
            names = [name.strip() for name in repos.split(",") if name.strip()]
            return f"{session.coord.proposals.brief(change, names)}\n{STEPS}"

    prompt = Prompt.from_function(plan_change, title="Plan this change across my repositories")
    server.add_prompt(prompt.model_copy(update={"arguments": ARGUMENTS}))


def add_resources(server: FastMCP, session: Session) -> None:
    @server.resource("coord://ecosystem", title="The ecosystem file", mime_type="application/yaml")
    def ecosystem() -> str:
        """The current ecosystem.yaml without passwords and tokens: repositories, issues, plans, todos,
        dependencies.
        """
        with refusals(ResourceError):
            return presentable_text(session.coord.manager.document.text.decode())

    @server.resource("coord://runs/{run_id}", title="A run", mime_type="application/json")
    def run(run_id: str) -> str:
        """A run with all its todos, as JSON; the id `last` is the newest run."""
        with refusals(ResourceError):
            return session.view(session.coord.runs.get(run_id)).model_dump_json(indent=2)

    @server.resource(
        "coord://runs/{run_id}/todos/{todo_id}/log", title="A todo's log", mime_type="text/plain"
    )
    def log(run_id: str, todo_id: str) -> str:
        """The output of a todo in a run, over all its attempts."""
        with refusals(ResourceError):
            return "".join(session.coord.runs.get(run_id).log(todo_id))

    @server.resource("coord://events", title="The latest events", mime_type="application/json")
    def latest_events() -> str:
        """The latest 100 events of runs, todos, locks, breakers and commands, oldest first, as JSON;
        `position` is the place behind them, for coord://events/{position}.
        """
        with refusals(ResourceError):
            return _page(session.coord.events.list(limit=EVENTS_AT_ONCE), BEGINNING)

    @server.resource(
        "coord://events/{position}", title="Events from a position", mime_type="application/json"
    )
    def events_after(position: str) -> str:
        """The next 100 events after a position (an id of an event, or 0-0 for the oldest), and the position
        to continue from. One `events.gap` stands for events that were deleted before that.
        """
        with refusals(ResourceError):
            return _page(session.coord.events.list(since=position, limit=EVENTS_AT_ONCE), position)


EVENTS_AT_ONCE = 100


def _page(events: Sequence[Event], position: str) -> str:
    return to_json({"events": events, "position": events[-1].id if events else position}, indent=2).decode()
