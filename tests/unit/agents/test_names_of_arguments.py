"""An argument of a tool has the name that the operation of the facade gives it."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastmcp.decorators import get_fastmcp_meta

from coordination.api.changes import Changes
from coordination.api.exclusion import Exclusion
from coordination.api.facade import Facade
from coordination.api.generators import Commands, Generators
from coordination.api.landing import Landings, QualityChecks
from coordination.api.messages import Inbox
from coordination.api.planning import Planner
from coordination.api.records import Records
from coordination.api.requests import Issues, Requests
from coordination.api.run import Run
from coordination.api.runs import Runs
from coordination.api.services import Services
from coordination.cache.contexts import Context
from coordination.history.memory import Memory
from coordination.locks import LockManager
from coordination.mcp.tools import changes, coordination, generators, runs, tracker
from coordination.messages import MessageBus
from coordination.models import Issue, Todo
from coordination.tracker.manager import CoordinationManager

FACADE = (
    Facade,
    Runs,
    Run,
    Landings,
    Changes,
    QualityChecks,
    Commands,
    Generators,
    Issues,
    Requests,
    Services,
    Planner,
    Records,
    CoordinationManager,
    LockManager,
    MessageBus,
    Context,
    Memory,
    Exclusion,
    Inbox,
)
OF_AGENTS = {
    "limit", "offset", "most",  # an answer has a length that a model reads
    "wait_s",  # a call must end
}  # fmt: skip
OTHERWISE = {
    "coord_retry_run": {"from_todos"},  # `from_`
    "coord_rollback_run": {"accept"},  # the todos of `Run.accept`
    "coord_get_run": {"states"},  # `RunView.only`
    "coord_approve_todo": {"dry_run"},  # `review`, an operation of its own
    "coord_create_todo": {"run", "prompt", "manual"},  # the kinds of `action`, flat
    "coord_complete_plan": {"milestones"},  # `complete_milestones` of `update_plan`
    "coord_update_issue": {"clear"},  # None in `changes`: models leave out what is null
    "coord_list_locks": {"all"},  # `internal`
    "coord_list_messages": {"dead"},  # an operation of its own
    "coord_ack_messages": {"ids"},  # `messages`
    "coord_list_services": {"services"},  # `names`
    "coord_change_services": {"services"},  # `names`
    "coord_forget_services": {"services"},  # `names`
    "coord_get_service_log": {"service"},  # `name`
    "coord_search_history": {"id"},  # `subject`, as the option of the command
}
"""Tool → its arguments that have another name in the facade."""


def tools() -> Iterator[Callable[..., Any]]:
    for module in (runs, changes, tracker, generators, coordination):
        yield from (tool for tool in vars(module).values() if get_fastmcp_meta(tool))


def arguments_of_facade(tool: Callable[..., Any]) -> set[str]:
    """The parameters of each operation, and the fields of each record, that the tool or a function below it
    uses.
    """
    names, pending, seen = set(), [tool], set()
    while pending:
        function = pending.pop()
        seen.add(function)
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Attribute):
                found = [getattr(owner, call.func.attr, None) for owner in FACADE]
                names |= {
                    name for one in found if callable(one) for name in inspect.signature(one).parameters
                }
            elif isinstance(call.func, ast.Name):
                called = inspect.unwrap(function).__globals__.get(call.func.id)
                if inspect.isfunction(called) and called not in seen:
                    pending.append(called)
                elif inspect.isclass(called) and dataclasses.is_dataclass(called):
                    names |= {field.name for field in dataclasses.fields(called)}
    return names


@pytest.mark.parametrize("tool", list(tools()), ids=lambda tool: tool.__name__)
def test_a_tool_names_its_arguments_as_the_facade_does(tool: Callable[..., Any]):
    known = arguments_of_facade(tool)
    if "fields" in known or "changes" in known:
        known |= set((Issue if "issue" in tool.__name__ else Todo).model_fields)
    given = set(inspect.signature(tool).parameters) - {"session"} - OF_AGENTS
    short = {name.removesuffix("_id") for name in known} | {f"{name}_s" for name in known}

    assert given - known - short == OTHERWISE.get(tool.__name__, set())
