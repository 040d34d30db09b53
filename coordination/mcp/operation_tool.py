"""Builds a tool from a declared operation: `coord_pr_list` from `pr.list`.

A tool has no schema of its result: the text suffices, and the schemas of all results would fill an agent's
context. A list is returned in pages.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

from fastmcp.decorators import get_fastmcp_meta
from fastmcp.exceptions import ToolError
from fastmcp.tools import FunctionTool, tool
from fastmcp.tools.base import ToolResult
from pydantic import BeforeValidator, Field
from pydantic_core import to_json, to_jsonable_python

from coordination.declared import Effect, Operation, Parameter, find
from coordination.mcp.declaration import NEEDED, OPERATION_OF, Limit, Offset, refusals, several
from coordination.mcp.session import Session
from coordination.models import presentable
from coordination.operation_index import INDEX

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


def operation_tools(session: Session) -> Iterator[FunctionTool]:
    """Yield the tools of all declared operations."""
    for name, row in INDEX.items():
        yield tool_of(find(row.part, name), session)


def tool_of(operation: Operation, session: Session) -> FunctionTool:
    """Return the tool of an operation."""
    name = f"coord_{operation.noun}_{operation.verb}"
    OPERATION_OF[name], NEEDED[name] = operation.name, operation.name if operation.effect.writes else "read"
    read_only, destructive, idempotent, outside = HINTS[operation.effect]
    declare = tool(
        name=name,
        title=operation.title,
        description="\n\n".join(filter(None, (operation.text, operation.for_agents))),
        annotations={
            "title": operation.title,
            "readOnlyHint": read_only,
            "destructiveHint": destructive,
            "idempotentHint": idempotent,
            "openWorldHint": outside,
        },
        output_schema=None,
    )
    function = declare(_function(operation, session))
    made = FunctionTool.from_function(function, metadata=get_fastmcp_meta(function))
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
    return {**kept, **(kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {})}


def _function(operation: Operation, session: Session) -> Callable[..., ToolResult]:
    def call(limit: int | None = None, offset: int = 0, **given: Any) -> ToolResult:
        with refusals(ToolError):
            result = operation.call(getattr(session.coord, operation.noun), given)
        return answer(page(result, limit, offset) if operation.lists else result)

    parameters = [_argument(one) for one in operation.parameters]
    if operation.lists and not operation.effect.writes:
        parameters += [_keyword("limit", Limit, 100), _keyword("offset", Offset, 0)]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in parameters}
    call.__name__ = operation.verb
    return call


def _argument(one: Parameter) -> inspect.Parameter:
    kind: Any = one.type
    if one.several:
        kind = Annotated[list[kind], BeforeValidator(several)]
    if one.optional:
        kind = kind | None
    option = one.option
    text = " ".join(filter(None, (option.text, option.for_agents)))
    default = list(one.default) if one.several and one.default else one.default
    return _keyword(
        one.name,
        Annotated[kind, Field(description=text, ge=option.least, max_length=option.longest)],
        default,
    )


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def page(records: Any, limit: int | None, offset: int) -> dict[str, Any]:
    """Return some of the records, and the number of all."""
    every = list(records)
    end = None if limit is None else offset + limit
    return {"result": [*map(presentable, every[offset:end])], "total": len(every)}


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
