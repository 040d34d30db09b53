"""Turns errors of coord into MCP errors, and limits tools and resources to those that the server's identity
may use.

Any other exception is an error in coord: FastMCP logs it on standard error and gives the client no details.

The server signs with its own identity (COORD_IDENTITY), or that of the user who started it. Where the machine
has a trust file, tools beyond the roles of that principal are neither listed nor executed. The facade also
checks the repositories of each operation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pydantic
from fastmcp.exceptions import FastMCPError, PromptError, ResourceError, ToolError, ValidationError
from fastmcp.prompts import PromptArgument
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from pydantic_core import ErrorDetails

from coordination.errors import CoordinationError
from coordination.mcp.declaration import NEEDED, QUIET
from coordination.mcp.session import Session
from coordination.text import did_you_mean, known_words, wrong_value

ALIASES: Mapping[str, str] = {
    "issue_id": "issue",
    "todo_id": "todo",
    "plan_id": "plan",
    "run_id": "run",
    "repo_name": "repo",
    "estimate_hours": "estimated_hours",
}
"""Common names in other systems → names in coord."""


class Arguments(Middleware):
    """Middleware: replaces aliases of arguments, and rewrites validation errors."""

    async def on_call_tool(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        server = context.fastmcp_context and context.fastmcp_context.fastmcp
        tool = await server.get_tool(context.message.name) if server else None
        known = tool.parameters.get("properties", {}) if tool else {}
        arguments = _without_aliases(context.message.arguments or {}, known)
        try:
            return await call_next(
                context.copy(message=context.message.model_copy(update={"arguments": arguments}))
            )
        except ValidationError as error:
            if not isinstance(error.__cause__, pydantic.ValidationError) or server is None:
                raise
            raise _refused(error.__cause__, known) from error

    async def on_get_prompt(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        """Refuse wrong arguments of a prompt: FastMCP ignores unknown ones, and is silent about missing
        ones.
        """
        server = context.fastmcp_context and context.fastmcp_context.fastmcp
        prompt = await server.get_prompt(context.message.name) if server else None
        if prompt and (mistakes := _mistakes(context.message.arguments or {}, prompt.arguments or ())):
            raise PromptError("\n".join(mistakes), log_level=QUIET)
        return await call_next(context)


def _without_aliases(given: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Return the arguments with aliases replaced, unless the tool knows the alias itself or is given both."""
    own_names = {name: ALIASES.get(name, name) for name in given}
    return {
        (own if name not in known and own in known and own not in given else name): given[name]
        for name, own in own_names.items()
    }


def _refused(error: pydantic.ValidationError, known: Collection[str]) -> FastMCPError:
    details_of: dict[str, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        details_of.setdefault(str(detail["loc"][0]), []).append(detail)
    return ToolError(
        "\n".join(_describe(name, details, known) for name, details in details_of.items()), log_level=QUIET
    )


def _describe(name: str, details: list[ErrorDetails], known: Collection[str]) -> str:
    kind = details[0]["type"]
    if kind == "unexpected_keyword_argument":
        return _unknown(name, known)
    if kind.startswith("missing"):
        return _missing(name)
    choice = next((detail for detail in details if detail["type"] in ("enum", "literal_error")), None)
    if choice is None:
        return f"{name}: {wrong_value(details)}, got {details[0]['input']!r}"
    given = choice["input"]
    return f"{name}: {wrong_value([choice])}, got {given!r}{_suggestion(given, choice.get('ctx', {}))}"


def _mistakes(given: Collection[str], arguments: Collection[PromptArgument]) -> list[str]:
    known = [argument.name for argument in arguments]
    needed = [argument.name for argument in arguments if argument.required]
    return [
        *(_unknown(name, known) for name in given if name not in known),
        *(_missing(name) for name in needed if name not in given),
    ]


def _unknown(name: str, known: Collection[str]) -> str:
    return f"unknown argument {name!r}{did_you_mean(name, known)}; the arguments are: {', '.join(known)}"


def _missing(name: str) -> str:
    return f"{name}: is required"


def _suggestion(got: object, context: Mapping[str, Any]) -> str:
    return did_you_mean(got, known_words(dict(context))) if isinstance(got, str) else ""


class Roles(Middleware):
    """Middleware: refuses, and leaves out of lists, what the server's identity may not use."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def on_list_tools(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        tools: Sequence[Any] = await call_next(context)
        may = self._operations({_operation(tool) for tool in tools})
        return [tool for tool in tools if _operation(tool) in may]

    async def on_call_tool(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        server = context.fastmcp_context and context.fastmcp_context.fastmcp
        tool = await server.get_tool(context.message.name) if server else None
        if tool is not None and _operation(tool) not in self._operations({_operation(tool)}):
            raise ToolError(self._refusal(_operation(tool)), log_level=QUIET)
        return await call_next(context)

    async def on_list_resources(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        found = await call_next(context)
        return found if self._operations({"read"}) else []

    async def on_read_resource(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        if not self._operations({"read"}):
            raise ResourceError(self._refusal("read"), log_level=QUIET)
        return await call_next(context)

    def _operations(self, operations: set[str]) -> set[str]:
        """Return those operations that the server's identity may perform; while the file is broken return
        all, because each tool then reports the file.
        """
        try:
            authority = self._session.coord.authority
        except CoordinationError:
            return operations
        return authority.allowed(operations)

    def _refusal(self, operation: str) -> str:
        try:
            self._session.coord.authority.check(operation)
        except CoordinationError as error:
            return str(error)
        return f"the right for {operation} has just been given; call the tool again"


def _operation(tool: Any) -> str:
    """Return the name of the right that a tool needs; for an unknown tool, one that nobody but an
    administrator has.
    """
    return NEEDED.get(tool.name, "unknown")
