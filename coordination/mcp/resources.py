"""What a client may attach to a conversation: the file, a run, what a todo wrote."""

from __future__ import annotations

from fastmcp import FastMCP
from fastmcp.exceptions import ResourceError

from coordination.ecosystem.presenting import presentable_text
from coordination.mcp.errors import told
from coordination.mcp.session import Session


def add(server: FastMCP, office: Session) -> None:
    @server.resource("coord://ecosystem", title="The ecosystem file", mime_type="application/yaml")
    def ecosystem() -> str:
        """ecosystem.yaml as it stands, but for passwords and tokens: repositories, issues, plans, todos, dependencies."""
        with told(ResourceError):
            return presentable_text(office.coord.manager.document.text.decode())

    @server.resource("coord://runs/{run_id}", title="A run", mime_type="application/json")
    def run(run_id: str) -> str:
        """A run with all its todos, as JSON; `last` is the newest one."""
        with told(ResourceError):
            return office.seen(office.coord.runs.get(run_id)).model_dump_json(indent=2)

    @server.resource("coord://runs/{run_id}/todos/{todo_id}/log", title="A todo's log", mime_type="text/plain")
    def log(run_id: str, todo_id: str) -> str:
        """What a todo wrote in a run, over all its attempts."""
        with told(ResourceError):
            return "".join(office.coord.runs.get(run_id).log(todo_id))
