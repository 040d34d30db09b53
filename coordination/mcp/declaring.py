"""From a function over an office to a tool: `@reads("Show an issue") def coord_get_issue(office, issue: str) -> Issue`.

The function's name is the tool's, its docstring what the model reads, its annotations the schemas; `office` is ours to give.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from types import ModuleType
from typing import Any, TypeVar, get_type_hints

from fastmcp.decorators import get_fastmcp_meta
from fastmcp.exceptions import ToolError
from fastmcp.tools import FunctionTool, tool

from coordination.mcp.errors import told
from coordination.mcp.session import Session

Deed = TypeVar("Deed", bound=Callable[..., Any])


def _kind(
    *, writes: bool, destructive: bool, idempotent: bool, outside: bool
) -> Callable[[str], Callable[[Deed], Deed]]:
    hints = {
        "readOnlyHint": not writes,
        "destructiveHint": destructive,
        "idempotentHint": idempotent,
        "openWorldHint": outside,
    }
    return lambda title: tool(title=title, annotations={"title": title, **hints})


reads = _kind(writes=False, destructive=False, idempotent=True, outside=False)
"""Changes nothing."""
adds = _kind(writes=True, destructive=False, idempotent=False, outside=False)
"""A new record, or a state that goes forward: nothing that was written is lost."""
changes = _kind(writes=True, destructive=True, idempotent=True, outside=False)
"""What stood there before is gone."""
checks = _kind(writes=True, destructive=False, idempotent=True, outside=True)
"""Runs commands that look at the world, and notes what they found."""
carries_out = _kind(writes=True, destructive=True, idempotent=False, outside=True)
"""Runs commands and agents that change repositories, on a branch of the run."""
undoes = _kind(writes=True, destructive=True, idempotent=True, outside=True)
"""Takes back what was carried out: once, however often it is asked for."""


def declared(module: ModuleType, office: Session) -> Iterator[FunctionTool]:
    """The tools of a module, in its order."""
    for deed in tuple(vars(module).values()):
        if meta := get_fastmcp_meta(deed):
            yield FunctionTool.from_function(bound(deed, office), metadata=meta)


def bound(deed: Callable[..., Any], office: Session) -> Callable[..., Any]:
    """The deed with its office, as what the client calls: its other parameters, by name; refusals in words."""

    @wraps(deed)
    def call(**given: Any) -> Any:
        with told(ToolError):
            return deed(office, **given)

    own, *others = inspect.signature(deed).parameters.values()
    hints = {name: hint for name, hint in get_type_hints(deed, include_extras=True).items() if name != own.name}
    others = [parameter.replace(annotation=hints[parameter.name]) for parameter in others]
    call.__signature__ = inspect.Signature(others, return_annotation=hints["return"])  # type: ignore[attr-defined]
    call.__annotations__ = hints
    del call.__wrapped__  # whoever follows it finds the office again
    return call
