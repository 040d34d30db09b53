"""Decides and remembers; `workers` does. Each room imports only rooms below it:

cli  mcp  gateway                  faces: parse, call one deed, print; the same as tools for AI agents; messages over WebSocket
library                            the same deeds for people who script them
fleet                              what runs on this machine
runs  desk                         a plan in motion | the records, asked for and changed
cache                              values that todos share, and what can be made again; one of many computes it, under a lock
ecosystem  planner  dependencies   the file people edit | pure graph work | what repositories need of each other, checked
locks  messages  sample            exclusion and capacity | delivery | what `coord demo` shows
wire                               Redis connections, key names, Lua steps, the Celery client app
settings  wording  nearest         what may be set | what is wrong with a value | what was meant
phrases  git  ring                 names in a sentence | a question to git | the way from a name back to itself
models  errors                     words

What is exported here is for scripts, and is imported when it is first asked for: the commands start in 90 ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordination.desk.manager import CoordinationManager
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
    from coordination.library.coord import Coord
    from coordination.library.events import Event
    from coordination.library.runs import Run
    from coordination.models import Dependency, Issue, OnFailure, Plan, Repo, Strategy, Todo
    from coordination.planner.selection import Selectors
    from coordination.runs.records import RunStatus, RunView, TodoState, TodoView
    from coordination.settings import Settings

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
    "Coord": "library.coord",
    "CoordinationManager": "desk.manager",
    "Event": "library.events",
    "Run": "library.runs",
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
