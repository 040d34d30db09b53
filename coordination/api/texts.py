"""The texts of operations and their arguments. Each is written once; commands, tools and the library show it.

The text of an operation is the docstring of its method. `runs.sweep` names the method that a script calls as
`coord.runs.sweep`. Front ends show its paragraphs up to the one on parameters, result or errors, which begins
with a backtick, "Return" or "Raises", and add what concerns only their own users. The constants are the texts
of arguments that several front ends have.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from coordination.declared import Operation, find, text_of
from coordination.operation_index import INDEX

PARTS = {
    "": "coordination.api.facade:Facade",
    "changes": "coordination.api.changes:Changes",
    "checks": "coordination.api.landing:QualityChecks",
    "commands": "coordination.api.generators:Commands",
    "context": "coordination.api.contexts:Contexts",
    "context()": "coordination.cache.contexts:Context",
    "credentials": "coordination.api.credentials:Credentials",
    "events": "coordination.api.events:Events",
    "lock": "coordination.api.exclusion:Locks",
    "resource": "coordination.api.exclusion:Resources",
    "breaker": "coordination.api.exclusion:Breakers",
    "generators": "coordination.api.generators:Generators",
    "template": "coordination.api.generators:Templates",
    "proposals": "coordination.api.proposals:Proposals",
    "health": "coordination.api.health:HealthOperations",
    "message": "coordination.api.messages:Messages",
    "topic": "coordination.api.messages:Topics",
    "issues": "coordination.api.requests:Issues",
    "landings": "coordination.api.landing:Landings",
    "machine": "coordination.api.machine",
    "manager": "coordination.api:CoordinationManager",
    "memory": "coordination.history.memory:Memory",
    "planner": "coordination.api.planning:Planner",
    "repo": "coordination.api.records:Repositories",
    "issue": "coordination.api.records:IssueRecords",
    "todo": "coordination.api.records:TodoRecords",
    "plan": "coordination.api.records:PlanRecords",
    "dep": "coordination.api.records:Dependencies",
    "pr": "coordination.api.requests:PullRequests",
    "run": "coordination.api.run:Run",
    "runs": "coordination.api.runs:Runs",
    "services": "coordination.api.services:Services",
    "steps": "coordination.api.machine:Steps",
    "trust": "coordination.api.trust:TrustAdministration",
}
"""Part of `coord` → the class, or the module, that has its operations. `run` is one run, as `coord.runs.get`
returns it, `context()` one context, as `coord.context(plan="P")` returns it; `machine` is a module of the
facade.
"""


def owner_of(part: str) -> Any:
    """Return the class, or the module, that has the operations of a part."""
    module, _, class_name = PARTS[part].partition(":")
    found = import_module(module)
    return getattr(found, class_name) if class_name else found


def part_of(coord: Any, operation: Operation) -> Any:
    """Return the part of a Coord that has an operation, for a call of it."""
    if operation.on is not None:
        return coord.runs
    row = INDEX.get(operation.name)
    part = operation.noun if row is None else next(part for part, place in PARTS.items() if place == row.part)
    return getattr(coord, part) if part else coord


def operation_text(name: str) -> str:
    """Return the text of an operation, such as `run.clean`, for the users of all front ends."""
    if row := INDEX.get(name):
        return find(row.part, name).text
    part, _, method = name.rpartition(".")
    return text_of(getattr(owner_of(part), method))


# Records
HOURS = "Record the hours taken."
FORCE = "Complete it although something is missing; needs a reason."
FORCE_REASON = "Say why it is forced; the history keeps it."

# Repositories and todos of a plan
TIMEOUT = "Stop it after this time: 90s, 10m, 1h."

# Runs
JOBS = "Run at most this many todos at once (default: the workers' slots)."
IN_RUN = "Name the run; needed if the todo waits in several runs."
COMMENT = "Record a comment with the todo."
REVIEW = "Show what an approval would sign; approve nothing."

# Change sets
CHANGED_REPOS = "Select the changes of these repositories (default: all)."
STAT = "List only the changed files, with their numbers of lines."
QA_REPOS = "Check these repositories (default: those of the plan or run, else all that declare checks)."
QA_PLAN = "Check the change set of this plan."
QA_RUN = "Check the commits of this run."
QA_BASE = "Check the base branches of the repositories of the plan or run."
QA_NO_CACHE = "Run all checks, also those with a green result for the same files."

# Services
SERVICES = "Names of services (default: all)."
PHASE = "Change services of this phase only."
