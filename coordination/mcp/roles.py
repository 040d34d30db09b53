"""Limits tools and resources to those that the identity of the server may use.

The server signs with its own identity (COORD_IDENTITY), or that of the user who started it. Where the machine
has a trust file, tools beyond the roles of that principal are neither listed nor executed. The facade checks
the repositories of each operation besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastmcp.exceptions import ResourceError, ToolError
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext

from coordination.errors import CoordinationError
from coordination.mcp.errors import QUIET
from coordination.mcp.session import Session

OPERATIONS: Mapping[str, str] = {
    "coord_create_issue": "edit",
    "coord_update_issue": "edit",
    "coord_close_issue": "edit",
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
    "coord_resolve_conflict": "retry",
    "coord_run_qa": "qa",
    "coord_land_plan": "land",
    "coord_revert_plan": "revert",
    "coord_create_checkpoint": "checkpoint",
    "coord_restore_checkpoint": "restore",
    "coord_approve_todo": "approve",
    "coord_reject_todo": "reject",
}
"""The operation of each tool that writes; tools that only read are declared so, and need `read`."""


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
        return f"the right for {operation} was given in this moment; call the tool again"


def _operation(tool: Any) -> str:
    """Return the operation of a tool; for an unknown one that writes, one that needs the highest right."""
    if tool.name in OPERATIONS:
        return OPERATIONS[tool.name]
    hints = tool.annotations
    return "read" if hints is not None and hints.read_only_hint else "unknown"
