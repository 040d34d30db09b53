"""Turns errors of coord into MCP errors, and limits tools and resources to those that the server's identity
may use.

Any other exception is an error in coord: FastMCP logs it on standard error and gives the client no details.

The server signs with its own identity (COORD_IDENTITY), or that of the user who started it. Where the machine
has a trust file, tools beyond the roles of that principal are neither listed nor executed. The facade also
checks the repositories of each operation.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pydantic
from fastmcp.exceptions import FastMCPError, PromptError, ResourceError, ToolError, ValidationError
from fastmcp.prompts import PromptArgument
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from pydantic_core import ErrorDetails

from coordination.errors import CoordinationError
from coordination.mcp.session import Session
from coordination.text import did_you_mean, known_words, wrong_value

Refusal = type[ToolError] | type[ResourceError] | type[PromptError]
QUIET = logging.DEBUG
"""Log level of refusals: the server's log does not show a client's mistakes."""

ALIASES: Mapping[str, str] = {
    "issue_id": "issue",
    "todo_id": "todo",
    "plan_id": "plan",
    "run_id": "run",
    "repo_name": "repo",
    "estimate_hours": "estimated_hours",
}
"""Common names in other systems → names in coord."""

OPERATIONS: Mapping[str, str] = {
    "coord_create_issue": "edit",
    "coord_update_issue": "edit",
    "coord_close_issue": "edit",
    "coord_sync_issues": "edit",
    "coord_create_todo": "edit",
    "coord_create_plan_from_template": "edit",
    "coord_campaign": "edit",
    "coord_complete_todo": "edit",
    "coord_complete_plan": "edit",
    "coord_check_dependencies": "edit",
    "coord_validate_plan": "edit",
    "coord_send_message": "send_message",
    "coord_ack_messages": "send_message",
    "coord_publish": "publish",
    "coord_context_set": "context",
    "coord_sweep_plan": "sweep",
    "coord_execute_todo": "execute",
    "coord_exec": "execute",
    "coord_retry_run": "retry",
    "coord_cancel_run": "cancel",
    "coord_rollback_run": "rollback",
    "coord_adopt_branch": "adopt",
    "coord_create_requests": "create_request",
    "coord_close_requests": "close_request",
    "coord_resolve_conflict": "retry",
    "coord_run_qa": "qa",
    "coord_change_services": "service",
    "coord_forget_services": "forget_service",
    "coord_land_plan": "land",
    "coord_revert_plan": "revert",
    "coord_create_checkpoint": "checkpoint",
    "coord_restore_checkpoint": "restore",
    "coord_approve_todo": "approve",
    "coord_reject_todo": "reject",
}
"""The operation of each tool that writes; tools that only read are declared so, and need `read`."""


@contextmanager
def refusals(kind: Refusal) -> Iterator[None]:
    """Raise errors of coord as errors of FastMCP, with their hints."""
    try:
        yield
    except CoordinationError as error:
        raise kind(str(error), log_level=QUIET) from error


class Arguments(Middleware):
    """Middleware: replaces aliases of arguments, and rewrites validation errors."""

    async def on_call_tool(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        server = context.fastmcp_context and context.fastmcp_context.fastmcp
        tool = await server.get_tool(context.message.name) if server else None
        known = tool.parameters.get("properties", {}) if tool else {}
        arguments = _by_our_names(context.message.arguments or {}, known)
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
        if prompt and (wrong := _wrong(context.message.arguments or {}, prompt.arguments or ())):
            raise PromptError("\n".join(wrong), log_level=QUIET)
        return await call_next(context)


def _by_our_names(given: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Return the arguments with aliases replaced, unless the tool knows the alias itself or is given both."""
    names = {name: ALIASES.get(name, name) for name in given}
    return {
        (ours if name not in known and ours in known and ours not in given else name): given[name]
        for name, ours in names.items()
    }


def _refused(error: pydantic.ValidationError, known: Collection[str]) -> FastMCPError:
    off: dict[str, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        off.setdefault(str(detail["loc"][0]), []).append(detail)
    return ToolError(
        "\n".join(_in_words(name, details, known) for name, details in off.items()), log_level=QUIET
    )


def _in_words(name: str, details: list[ErrorDetails], known: Collection[str]) -> str:
    kind = details[0]["type"]
    if kind == "unexpected_keyword_argument":
        return _unknown(name, known)
    if kind.startswith("missing"):
        return _needed(name)
    choice = next((detail for detail in details if detail["type"] in ("enum", "literal_error")), None)
    if choice is None:
        return f"{name}: {wrong_value(details)}, got {details[0]['input']!r}"
    given = choice["input"]
    return f"{name}: {wrong_value([choice])}, got {given!r}{_near(given, choice.get('ctx', {}))}"


def _wrong(given: Collection[str], arguments: Collection[PromptArgument]) -> list[str]:
    known = [argument.name for argument in arguments]
    needed = [argument.name for argument in arguments if argument.required]
    return [
        *(_unknown(name, known) for name in given if name not in known),
        *(_needed(name) for name in needed if name not in given),
    ]


def _unknown(name: str, known: Collection[str]) -> str:
    return f"there is no argument {name!r}{did_you_mean(name, known)}; there are: {', '.join(known)}"


def _needed(name: str) -> str:
    return f"{name}: is required"


def _near(got: object, context: Mapping[str, Any]) -> str:
    return did_you_mean(got, known_words(dict(context))) if isinstance(got, str) else ""


class Roles(Middleware):
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
            raise ToolError(self._why(_operation(tool)), log_level=QUIET)
        return await call_next(context)

    async def on_list_resources(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        found = await call_next(context)
        return found if self._operations({"read"}) else []

    async def on_read_resource(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        if not self._operations({"read"}):
            raise ResourceError(self._why("read"), log_level=QUIET)
        return await call_next(context)

    def _operations(self, wanted: set[str]) -> set[str]:
        """Return those of the operations that the server's identity may do; all while the file is broken,
        because each tool then reports the file.
        """
        try:
            authority = self._session.coord.authority
        except CoordinationError:
            return wanted
        return authority.allowed(wanted)

    def _why(self, operation: str) -> str:
        try:
            self._session.coord.authority.check(operation)
        except CoordinationError as error:
            return str(error)
        return f"the right for {operation} has just been given; call the tool again"


def _operation(tool: Any) -> str:
    """Return the operation of a tool; for an unknown one that writes, one that needs the highest right."""
    if tool.name in OPERATIONS:
        return OPERATIONS[tool.name]
    hints = tool.annotations
    return "read" if hints is not None and hints.read_only_hint else "unknown"
