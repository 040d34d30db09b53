"""coord decides and remembers here; `workers` executes. Each package imports only packages below it.

| package | content |
|---|---|
| `cli` `mcp` `gateway` `dashboard` | front ends: commands, tools for AI agents, messages, pages for people |
| `client` | a client of the gateway, for programs without access to Redis |
| `api` | the facade: every operation, for the front ends and for scripts |
| `changes` | change sets as people see and handle them |
| `landing` | a change set into the base branches, and out of them again |
| `checks` | quality checks of repositories: their runs, and reports |
| `services` | services of repositories, kept up by a supervisor |
| `operations` | processes of this machine, doctor, metrics, Redis users, Flower |
| `health` | health of repositories and services, and their recovery |
| `runs` `tracker` | plans in execution; records of the file, queried and edited |
| `history` | the history of the file: search, trends |
| `cache` | values that todos share, and values computed once under a lock |
| `events` | the stream of events of a namespace: kinds, appending, reading |
| `charts` | graphs as pictures and as text |
| `ecosystem` `planner` `dependencies` | the file; dependency graphs and forecasts; version checks |
| `locks` `messages` `breakers` `demo` | exclusion and capacity; delivery; circuit breakers; `coord demo` |
| `trust` `forges` | keys, signatures, roles; pull requests at GitHub, GitLab and Gitea |
| `broker` | the Celery app and its transports |
| `backend` | Redis: client, keys, Lua steps, embedded server |
| `credentials` | secrets of this machine: references, masking |
| `sandbox` `sandbox_limits` | sandboxes for commands; limits of their processes |
| `agent_programs` | facts about the programs of agents: names, logins, files, versions |
| `settings` `setting_types` `models` `errors` | settings, their types; records of the file; exceptions |
| `files` `git` `git_programs` | private files; git queries; settings of git for programs that it starts |
| `terminal` | safe output |
| `trailers` `bounded` | trailers of commits, parsed as hostile; answers of git, limited in size and time |
| `branches` | names of coord's branches |
| `background` `retry` | background threads; pauses between tries |
| `rewrites` | rewrites of code by ast-grep |
| `user_program` | programs of the user, bounded in time and output |
| `durations` `processes` `disk` | milliseconds, deadlines; identity of processes; free space |
| `text` `environment` | sentences, suggestions, regular expressions of users; environment variables |
| `declared` `operation_index` | declarations of operations; their names |
| `frozen` `states` | the base of records; tones and words of states |

Exported names are imported on first use, so that commands start in 90 ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordination.api.coord import Coord
    from coordination.api.run import Run
    from coordination.api.specification import (
        CoordinationExecutor,
        CoordinationManagerWithMemory,
        CoordinationMemory,
    )
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
        NotSupported,
        PlanRefused,
        Unreachable,
        UsageError,
    )
    from coordination.events.records import Event
    from coordination.models import Dependency, Issue, OnFailure, Plan, Repo, Strategy, Todo
    from coordination.planner.selection import Selectors
    from coordination.runs.records import RunStatus, TodoState
    from coordination.runs.views.records import RunView, TodoView
    from coordination.settings import Settings
    from coordination.tracker.manager import CoordinationManager

__all__ = [
    "Blocked",
    "Conflict",
    "Coord",
    "CoordinationError",
    "CoordinationExecutor",
    "CoordinationManager",
    "CoordinationManagerWithMemory",
    "CoordinationMemory",
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
    "NotSupported",
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
    **dict.fromkeys(
        ("CoordinationExecutor", "CoordinationManagerWithMemory", "CoordinationMemory"), "api.specification"
    ),
    "Event": "events.records",
    "Run": "api.run",
    "Selectors": "planner.selection",
    "Settings": "settings",
    **dict.fromkeys(("Dependency", "Issue", "OnFailure", "Plan", "Repo", "Strategy", "Todo"), "models"),
    **dict.fromkeys(("RunStatus", "TodoState"), "runs.records"),
    **dict.fromkeys(("RunView", "TodoView"), "runs.views.records"),
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'coordination' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"coordination.{_HOMES.get(name, 'errors')}"), name)
