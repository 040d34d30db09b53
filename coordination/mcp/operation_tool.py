"""Builds a tool from a declared operation: `coord_pr_list` from `pr.list`.

A list is returned in pages; a run as it is now, or when it has ended.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Annotated, Any

from fastmcp.decorators import get_fastmcp_meta
from fastmcp.exceptions import ToolError
from fastmcp.tools import FunctionTool, tool
from fastmcp.tools.base import ToolResult
from pydantic import BeforeValidator, Field

from coordination.api import RunView
from coordination.api.run import Run
from coordination.api.texts import part_of
from coordination.declared import Effect, Operation, Parameter, data_of, find
from coordination.mcp.answers import TODOS_SHOWN, CutRun, cut, cut_lists, page
from coordination.mcp.declaration import (
    NEEDED,
    OPERATION_OF,
    Limit,
    Most,
    Offset,
    Wait,
    answer,
    hints_of,
    refusals,
    several,
    without_defaults,
)
from coordination.mcp.session import Session
from coordination.models import parse_duration
from coordination.operation_index import INDEX

CUT = {
    **dict.fromkeys(("repo.status", "ecosystem.status", "plan.validate", "plan.forecast"), 30),
    **dict.fromkeys(("plan.campaign", "plan.create_from_template"), TODOS_SHOWN),
}
"""Operation whose result has long lists → number of items of each that its tool returns by default."""
WHOLE = ("repos", "breakers")
"""Lists that are never cut."""
Duration = Annotated[timedelta, BeforeValidator(parse_duration)]


def operation_tools(session: Session) -> Iterator[FunctionTool]:
    """Yield the tools of all declared operations."""
    for name, row in INDEX.items():
        if (operation := find(row.part, name)).tool:
            yield tool_of(operation, session)


def tool_of(operation: Operation, session: Session) -> FunctionTool:
    """Return the tool of an operation."""
    named = operation.tool if isinstance(operation.tool, str) else f"{operation.noun}_{operation.verb}"
    name = f"coord_{named}"
    OPERATION_OF[name], NEEDED[name] = operation.name, operation.order if operation.effect.writes else "read"
    declare = tool(
        name=name,
        title=operation.title,
        description="\n\n".join(filter(None, (operation.text, operation.for_agents))),
        annotations={"title": operation.title, **hints_of(operation.effect)},
        output_schema=None,
    )
    function = declare(_function(operation, session))
    made = FunctionTool.from_function(function, metadata=get_fastmcp_meta(function))
    return made.model_copy(update={"parameters": without_defaults(made.parameters)})


def _function(operation: Operation, session: Session) -> Callable[..., ToolResult]:
    def call(**given: Any) -> ToolResult:
        limit, offset = (given.pop("limit"), given.pop("offset")) if pages else (None, 0)
        longest = given.pop("limit") if cuts else 0
        wait_s = given.pop("wait_s", 0)
        with refusals(ToolError):
            result = operation.call(part_of(session.coord, operation), given)
            if isinstance(result, Run):
                return answer(cut(CutRun, _view(session, operation, result, wait_s), TODOS_SHOWN))
            if run_id := getattr(result, "run_id", None):
                session.view(session.coord.runs.get(run_id))
        if operation.lists:
            return answer(page(result, limit or len(result), offset))
        data = data_of(result)
        return answer(cut_lists(data, longest, WHOLE) if cuts else data)

    parameters = [_argument(one) for one in operation.parameters if one.option.tool]
    if operation.result is Run:
        parameters.append(_keyword("wait_s", Wait, 0))
    pages = operation.lists and not (operation.effect.writes or _has_limit(operation))
    pages = pages and operation.result is not str
    cuts = operation.name in CUT
    if cuts:
        parameters.append(_keyword("limit", Most, CUT[operation.name]))
    if pages:
        parameters += [_keyword("limit", Limit, 100), _keyword("offset", Offset, 0)]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in parameters}
    call.__name__ = operation.verb
    return call


def _view(session: Session, operation: Operation, run: Run, wait_s: float) -> RunView:
    """Return a run. One that was started here continues without this process."""
    started = operation.effect in (Effect.EXECUTES, Effect.UNDOES)
    return session.detached(run, wait_s) if started else session.view(run, wait_s)


def _has_limit(operation: Operation) -> bool:
    return any(one.name == "limit" for one in operation.parameters)


def _argument(one: Parameter) -> inspect.Parameter:
    kind: Any = one.type if one.type is not timedelta else Duration
    if one.several:
        kind = Annotated[list[kind], BeforeValidator(several)]
    if one.optional:
        kind = kind | None
    option = one.option
    text = " ".join(filter(None, (option.text, option.for_agents)))
    default = list(one.default) if isinstance(one.default, tuple) else one.default
    return _keyword(
        one.name,
        Annotated[kind, Field(description=text, max_length=option.longest, **_limits(one))],
        default,
    )


def _limits(one: Parameter) -> dict[str, Any]:
    """Return the limits of a number, or of a duration, which is more than zero."""
    if one.type is timedelta:
        return {"gt": timedelta(0)} if one.option.least else {}
    return {"ge": one.option.least, "le": one.option.most}


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
