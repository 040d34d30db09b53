"""The server: all tools, resources and the prompt over one office."""

from __future__ import annotations

import logging
from importlib.metadata import version

import fastmcp
from fastmcp import FastMCP
from fastmcp.server.auth import TokenVerifier

from coordination.mcp import prompts, resources
from coordination.mcp.declaring import declared
from coordination.mcp.errors import Arguments
from coordination.mcp.session import Session
from coordination.mcp.tools import approvals, checkpoints, context, issues, locks, messages, plans, repos, runs, todos

INSTRUCTIONS = """\
coord keeps one file, ecosystem.yaml, with the issues, plans, todos and dependencies of many git repositories, and carries
plans out on workers.

Look first: coord_get_ecosystem_status, coord_list_plans, coord_list_todos. A todo belongs to one repository; `blocked_by`
puts todos in order, across repositories too. coord_forecast_plan shows what a sweep would take. coord_sweep_plan starts a run
and returns at once; coord_get_run(run=…, wait_s=60) follows it to its end, when what has succeeded is marked as completed in
the file; its work stands on branch coord/<run_id> of each repository, for somebody to merge. coord_get_logs shows why a todo
failed; coord_retry_run goes on after the mend, coord_rollback_run undoes what a run did. coord_send_message and coord_list_messages talk to others. Errors say what to do next; where they name a command (`coord list-todos`), the
tool of that name does it, if there is one (coord_list_todos).
"""


def build(office: Session, auth: TokenVerifier | None = None) -> FastMCP:
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
    for module in (repos, issues, todos, plans, runs, checkpoints, approvals, locks, context, messages):
        for tool in declared(module, office):
            server.add_tool(tool)
    resources.add(server, office)
    prompts.add(server, office)
    return server


def _calm() -> None:
    """Faults go to standard error as plain lines; nothing else does, and nobody is asked for a newer version."""
    fastmcp.settings.telemetry_mode = "off"
    log = logging.getLogger("fastmcp")
    log.handlers = [logging.StreamHandler()]
    log.setLevel(logging.ERROR)
