"""An AI agent's side: a real MCP client, asked from plain tests."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # FastMCP takes 3 s to import, so only those who need an agent pay for it
    from anyio.from_thread import BlockingPortal
    from fastmcp import Client, FastMCP
    from fastmcp.client.transports import ClientTransport
    from mcp_types import CallToolResult, Tool


def all_tools() -> set[str]:
    """Return the names of the tools of coord."""
    chapter = Path(__file__).parents[1] / "docs" / "tools.md"
    return set(re.findall(r"^## (coord_\w+)$", chapter.read_text(), re.MULTILINE))


class Agent:
    def __init__(self, client: Client[Any], portal: BlockingPortal) -> None:
        self._client = client
        self._portal = portal

    def answer(self, tool: str, **arguments: Any) -> CallToolResult:
        return self._portal.call(self._client.call_tool_mcp, tool, arguments)

    def call(self, tool: str, **arguments: Any) -> Any:
        """Return the tool's result: an object, or the items of a list."""
        answer = self.answer(tool, **arguments)
        assert not answer.is_error, answer.content
        found = answer.structured_content or {}
        return found["result"] if set(found) == {"result"} else found

    def refused(self, tool: str, **arguments: Any) -> str:
        """Return the tool's error."""
        answer = self.answer(tool, **arguments)
        assert answer.is_error, answer.structured_content
        text: str = answer.content[0].text  # type: ignore[union-attr]
        return text

    def tools(self) -> dict[str, Tool]:
        return {tool.name: tool for tool in self._portal.call(self._client.list_tools)}

    def read(self, uri: str) -> str:
        text: str = self._portal.call(self._client.read_resource, uri)[0].text  # type: ignore[union-attr]
        return text

    def templates(self) -> set[str]:
        return {str(found.uri_template) for found in self._portal.call(self._client.list_resource_templates)}

    def prompt(self, name: str, **arguments: Any) -> str:
        found = self._portal.call(self._client.get_prompt, name, arguments)
        text: str = found.messages[0].content.text  # type: ignore[union-attr]
        return text

    def instructions(self) -> str:
        return self._client.instructions or ""


@contextmanager
def agent(server: FastMCP | ClientTransport) -> Iterator[Agent]:
    """Connected for as long as it lasts; a server over stdio is started for it, and ends with it."""
    from anyio.from_thread import start_blocking_portal
    from fastmcp import Client

    client: Client[Any] = Client(server)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(client):
        yield Agent(client, portal)


@contextmanager
def agent_of(file: Path, redis_url: str | None = None) -> Iterator[Agent]:
    """Connected to a server for this file in this process."""
    from coordination.mcp.server import build
    from coordination.mcp.session import Session

    with closing(Session(file, redis_url)) as session, agent(build(session)) as made:
        yield made


def over_stdio(words: Sequence[str], env: Mapping[str, str], folder: Path | str) -> ClientTransport:
    """Return the start of `coord` with these words, to be spoken to on standard input and output."""
    from fastmcp.client.transports import StdioTransport

    program, *arguments = words
    return StdioTransport(program, arguments, env=dict(env), cwd=str(folder), keep_alive=False)
