"""The texts of operations and their arguments. Each stands once, and commands, tools and the library show it.

The text of an operation is the docstring of its method. `runs.sweep` names the method that a script calls as
`coord.runs.sweep`. Front ends show its paragraphs up to the one on parameters, result or errors, which begins
with a backtick, "Return" or "Raises", and add what concerns only their own users. The constants are the texts
of arguments that several front ends have.
"""

from __future__ import annotations

import inspect
from importlib import import_module

PARTS = {
    "": "coordination.api.facade:Facade",
    "changes": "coordination.api.changes:Changes",
    "checks": "coordination.api.checks:QualityChecks",
    "commands": "coordination.api.commands:Commands",
    "context": "coordination.cache.contexts:Context",
    "credentials": "coordination.api.credentials",
    "events": "coordination.api.events:Events",
    "generators": "coordination.api.generators:Generators",
    "health": "coordination.api.health:HealthOperations",
    "inbox": "coordination.api.messages",
    "issues": "coordination.api.issues:Issues",
    "landings": "coordination.api.landing:Landings",
    "locks": "coordination.locks:LockManager",
    "machine": "coordination.api.machine",
    "manager": "coordination.api:CoordinationManager",
    "memory": "coordination.history.memory:Memory",
    "messages": "coordination.messages:MessageBus",
    "planner": "coordination.api.planning:Planner",
    "requests": "coordination.api.requests:Requests",
    "run": "coordination.api.run:Run",
    "runs": "coordination.api.runs:Runs",
    "services": "coordination.api.services:Services",
    "trust": "coordination.api.trust:TrustAdministration",
}
"""Part of `coord` → the class, or the module, that has its operations. `run` is one run, as `coord.runs.get`
returns it; `inbox` and `machine` are modules of the facade.
"""


def operation_text(name: str) -> str:
    """Return the text of an operation, such as `runs.sweep`, for the users of all front ends."""
    part, _, method = name.rpartition(".")
    module, _, class_name = PARTS[part].partition(":")
    owner = getattr(import_module(module), class_name) if class_name else import_module(module)
    paragraphs = (inspect.getdoc(getattr(owner, method)) or "").split("\n\n")
    ends = (i for i, one in enumerate(paragraphs) if one.startswith(("`", "Return", "Raises")))
    return "\n\n".join(paragraphs[: next(ends, len(paragraphs))])
