"""Decides and remembers; `workers` executes. Each package imports only packages below it:

cli  mcp  gateway                  front ends: parse, call one operation, print; tools for AI agents; messages over WebSocket
api                                the one facade: every operation, for commands, MCP and scripts
operations                         processes of this machine, doctor, metrics, users of Redis, Flower
runs  tracker                      a plan in execution | records queried and edited
cache                              values that todos share, and what can be computed again: one computes it, under a lock
ecosystem  planner  dependencies   the file | pure graph work | what repositories need of each other, checked
locks  messages  breakers  demo    exclusion and capacity | delivery | circuit breakers | what `coord demo` shows
wire                               Redis connections, key names, Lua steps, the Celery client app
settings  wording  nearest         what may be set | what is wrong with a value | what was meant
phrases  git  cycles               names in a sentence | a question to git | cycles among names
models  errors                     records, errors

What is exported here is for scripts, and is imported when it is first asked for: the commands start in 90 ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordination.api.coord import Coord
    from coordination.api.events import Event
    from coordination.api.run import Run
    from coordination.errors import (
        Blocked,
        Conflict,
        CoordinationError,
        GitRefused,
        InvalidFile,
        LockError,
        LockLost,
        LockTimeout,
        NotAllowed,
        NotFound,
        PlanRefused,
        Unreachable,
        UsageError,
    )
    from coordination.models import Dependency, Issue, OnFailure, Plan, Repo, Strategy, Todo
    from coordination.planner.selection import Selectors
    from coordination.runs.records import RunStatus, RunView, TodoState, TodoView
    from coordination.settings import Settings
    from coordination.tracker.manager import CoordinationManager

__all__ = [
    "Blocked",
    "Conflict",
    "Coord",
    "CoordinationError",
    "CoordinationManager",
    "Dependency",
    "Event",
    "GitRefused",
    "InvalidFile",
    "Issue",
    "LockError",
    "LockLost",
    "LockTimeout",
    "NotAllowed",
    "NotFound",
    "OnFailure",
    "Plan",
    "PlanRefused",
    "Repo",
    "Run",
    "RunStatus",
    "RunView",
    "Selectors",
    "Settings",
    "Strategy",
    "Todo",
    "TodoState",
    "TodoView",
    "Unreachable",
    "UsageError",
]

_HOMES = {
    "Coord": "api.coord",
    "CoordinationManager": "tracker.manager",
    "Event": "api.events",
    "Run": "api.run",
    "Selectors": "planner.selection",
    "Settings": "settings",
    **dict.fromkeys(("Dependency", "Issue", "OnFailure", "Plan", "Repo", "Strategy", "Todo"), "models"),
    **dict.fromkeys(("RunStatus", "RunView", "TodoState", "TodoView"), "runs.records"),
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'coordination' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"coordination.{_HOMES.get(name, 'errors')}"), name)
