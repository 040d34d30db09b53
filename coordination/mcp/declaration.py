"""Builds MCP tools from functions: `@reads("Preview a rollback", "run.rollback_preview")`.

The function's name and annotations become the tool's name and schema; its description is the text of the
operation, followed by the function's docstring, which is for agents only. The server passes `session`. A tool
has no schema of its result: the text suffices, and the schemas of all results would fill an agent's context.
Arguments that several tools have are declared here once.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache, wraps
from types import ModuleType
from typing import Annotated, Any, TypeVar, get_type_hints

from fastmcp.decorators import get_fastmcp_meta
from fastmcp.exceptions import PromptError, ResourceError, ToolError
from fastmcp.tools import FunctionTool, tool
from fastmcp.tools.base import ToolResult
from pydantic import BeforeValidator, Field
from pydantic_core import to_json, to_jsonable_python

from coordination.api import LAST, texts
from coordination.api.authority import NEEDS
from coordination.api.texts import operation_text
from coordination.declared import Effect
from coordination.errors import CoordinationError
from coordination.mcp.session import Session

T = TypeVar("T")
Refusal = type[ToolError] | type[ResourceError] | type[PromptError]
QUIET = logging.DEBUG
"""Log level of refusals: the server's log does not show a client's mistakes."""


@contextmanager
def refusals(kind: Refusal) -> Iterator[None]:
    """Raise errors of coord as errors of FastMCP, with their hints."""
    try:
        yield
    except CoordinationError as error:
        raise kind(str(error), log_level=QUIET) from error


def several(given: Any) -> Any:
    """Convert one value to a list; split text at commas."""
    return [word.strip() for word in given.split(",") if word.strip()] if isinstance(given, str) else given


AnyOf = Annotated[
    Sequence[T], BeforeValidator(several), Field(description="Any of these values (default: no filter).")
]
Items = Annotated[Sequence[str] | None, BeforeValidator(several)]

RunName = Annotated[str, Field(description=f"A run's id, its beginning or end, or `{LAST}`.")]
PlanName = Annotated[str, Field(description="A plan's id, as coord_list_plans gives it.")]
Time = Annotated[datetime | None, Field(description="A date or time such as 2026-01-31T12:00:00Z.")]
Limit = Annotated[
    int, Field(ge=1, le=1000, description="Maximum number of results; `total` is the number of all.")
]
Most = Annotated[
    int, Field(ge=1, le=10_000, description="Maximum length of each list; `left_out` counts the rest.")
]
Offset = Annotated[int, Field(ge=0, description="Number of results to skip.")]

AtOnce = Annotated[int | None, Field(ge=1, description=texts.JOBS)]
Wait = Annotated[
    float,
    Field(ge=0, le=60, description="Return when the run has ended, at the latest after this many seconds."),
]


Function = TypeVar("Function", bound=Callable[..., Any])
OPERATION_OF: dict[str, str] = {}
"""Tool → its operation; empty for a tool that has none."""
NEEDED: dict[str, str] = {}
"""Tool → the name of the right that it needs."""


HINTS: Mapping[Effect, tuple[bool, bool, bool, bool]] = {
    Effect.READS: (True, False, True, False),
    Effect.LOOKS_OUTSIDE: (True, False, True, True),
    Effect.ADDS: (False, False, False, False),
    Effect.CHANGES: (False, True, True, False),
    Effect.CHECKS: (False, False, True, True),
    Effect.EXECUTES: (False, True, False, True),
    Effect.UNDOES: (False, True, True, True),
    Effect.SYNCHRONISES: (False, True, True, True),
}
"""Effect → the hints that it is read-only, destructive, idempotent, and reaches servers outside."""


def hints_of(effect: Effect) -> dict[str, bool]:
    """Return what a client is told of the effect of a tool."""
    names = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")
    return dict(zip(names, HINTS[effect], strict=True))


def _kind(effect: Effect) -> Callable[..., Callable[[Function], Function]]:
    def declare(title: str, operation: str = "", needs: str = "") -> Callable[[Function], Function]:
        """`needs`: the name of the right, where the operation does not have it."""

        def declared_tool(function: Function) -> Function:
            texts = (operation and operation_text(operation), inspect.getdoc(function))
            OPERATION_OF[function.__name__] = operation
            NEEDED[function.__name__] = (needs or NEEDS[operation]) if effect.writes else "read"
            make = tool(
                title=title,
                description="\n\n".join(filter(None, texts)),
                annotations={"title": title, **hints_of(effect)},
                output_schema=None,
            )
            made: Function = make(function)
            return made

        return declared_tool

    return declare


reads = _kind(Effect.READS)
adds = _kind(Effect.ADDS)
changes = _kind(Effect.CHANGES)
checks = _kind(Effect.CHECKS)
executes = _kind(Effect.EXECUTES)
undoes = _kind(Effect.UNDOES)
synchronises = _kind(Effect.SYNCHRONISES)


def declared(module: ModuleType, session: Session | None) -> Iterator[FunctionTool]:
    """Yield the tools of a module, in its order. Without a session they can be described, not called."""
    for operation in tuple(vars(module).values()):
        if get_fastmcp_meta(operation):
            yield described(operation).model_copy(update={"fn": bound(operation, session)})


@cache
def described(operation: Callable[..., Any]) -> FunctionTool:
    """Return the tool of an operation, for any session. The schemas of all tools take a second."""
    made = FunctionTool.from_function(bound(operation, None), metadata=get_fastmcp_meta(operation))
    return made.model_copy(update={"parameters": without_defaults(made.parameters)})


def without_defaults(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of arguments without their defaults, which the texts name, and without null, which is
    the absent value: half of its size.
    """
    properties = schema.get("properties", {})
    return {**schema, "properties": {name: _shortened(one) for name, one in properties.items()}}


def _shortened(schema: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in schema.items() if name not in ("default", "anyOf")}
    kinds = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    if len(kinds) != 1:
        return {**kept, "anyOf": kinds} if kinds else kept
    return {name: value for name, value in kinds[0].items() if name != "description"} | kept


def bound(operation: Callable[..., Any], session: Session | None) -> Callable[..., Any]:
    """Return the operation with its session bound: its other parameters are keyword arguments, and errors
    become texts.
    """

    @wraps(operation)
    def call(**given: Any) -> ToolResult:
        with refusals(ToolError):
            result = operation(session, **given)
        return answer(result)

    own, *others = inspect.signature(operation).parameters.values()
    hints = {
        name: hint
        for name, hint in get_type_hints(operation, include_extras=True).items()
        if name != own.name
    }
    others = [parameter.replace(annotation=hints[parameter.name]) for parameter in others]
    call.__signature__ = inspect.Signature(others)  # type: ignore[attr-defined]
    call.__annotations__ = {name: hint for name, hint in hints.items() if name != "return"}
    del call.__wrapped__  # inspect would follow it to the signature with the session
    return call


def answer(result: Any) -> ToolResult:
    """Return a result as text without fields that are null, and as structured content as it is."""
    plain = to_jsonable_python(result)
    text = to_json(_without_nulls(plain)).decode()
    return ToolResult(
        content=text,
        structured_content=plain if isinstance(plain, dict) else {"result": plain},
    )


def _without_nulls(value: Any) -> Any:
    match value:
        case dict():
            return {name: _without_nulls(one) for name, one in value.items() if one is not None}
        case list():
            return [*map(_without_nulls, value)]
        case _:
            return value
