"""The JSON Schema of ecosystem.yaml, for completion and checks in editors.

It is derived from the records; alternative forms that they accept (a command as bare text, a criterion as
text, a resource as its name, a duration as a number, an empty field) are added here. Its descriptions are for
people who write the file; the docstrings of the records speak of values in Python, such as None.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Collection
from datetime import timedelta
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from coordination import models
from coordination.models import Ecosystem
from coordination.settings import Settings

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DURATION = {
    "description": "90s, 10m, 1.5h, 2d or a number of seconds",
    "type": ["string", "number"],
    "exclusiveMinimum": 0,
    "examples": ["90s", "10m"],
}

_TEXT = {"type": "string", "minLength": 1}
_RESOURCE = TypeAdapter(models.ResourceName).json_schema()
_BARE_COMMAND: list[dict[str, Any]] = [_TEXT, {"type": "array", "minItems": 1, "items": _TEXT}]

_WAVE = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "string", "minLength": 1},
        {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
    ]
}
BARE_ITEMS = {
    ("Milestone", "completion_criteria"): _TEXT,
    ("Todo", "resources"): _RESOURCE,
    ("Waves", "order"): _WAVE,
    ("PlanWaves", "order"): {"anyOf": _WAVE["anyOf"][1:]},
}
"""Fields whose items may be written as a text."""
_SANDBOX = {"enum": [*(kind.value for kind in models.SandboxKind), False]}
"""`off` is false in YAML 1.1."""

DESCRIPTIONS = {
    "Ecosystem.settings": (
        "Settings of coord for this ecosystem; options and COORD_<NAME> variables override them."
    ),
    "Ecosystem.repos": "The repositories that work together.",
    "Ecosystem.resources": "Capacities that todos share, such as a database, a device or an account.",
    "Ecosystem.coordination": "The issues, plans, todos and dependencies that run across the repositories.",
    "Coordination.id": (
        "Identifies this ecosystem on a shared Redis: random, and equal in every copy of the file."
    ),
    "Repo.name": "Name by which the file refers to it.",
    "Repo.path": "Path of its checkout, relative to this file.",
    "Repo.url": "URL that it is cloned from.",
    "Repo.branch": "The branch that runs start from.",
    "Repo.role": "Purpose in your own words; repo list filters by it.",
    "Repo.slots": "Number of runs that may work on it at once.",
    "Repo.prepare": (
        "Command that prepares a new worktree, for example its virtual environment; run once per worktree."
    ),
    "Repo.qa": (
        "Its quality checks: a command, or a list of {name, run, kind, needs, report, timeout, retries}."
    ),
    "Check.name": "Name of the check; required if the repository has several.",
    "Check.run": "Command; exit code 0 is green, if the report has no failed test either.",
    "Check.timeout": "Time after which it is ended, and red.",
    "Check.needs": "Repositories and resources that it needs, besides the providers of dependencies.",
    "Check.report": "JUnit XML that it writes: a path or glob in the repository.",
    "Check.retries": "How often it runs again where tests failed; for checks that are known to be flaky.",
    "Repo.submodules": (
        "Check out submodules in worktrees (default: those that the checkout has initialised)."
    ),
    "Repo.workspace": "Workspace of todos that declare none: a worktree of the run, or the path itself.",
    "Repo.sandbox": "Sandbox of todos that declare none: off, bubblewrap, or {network, memory, processes}.",
    "Repo.forge": "Where its pull requests are, as far as its url does not say it: {type, api, project}.",
    "ForgeRule.type": "The kind of forge (default: by the host of the url).",
    "ForgeRule.api": "Address of its API, such as https://git.example.com/api/v4.",
    "ForgeRule.project": "Its name there: owner/name, with all groups.",
    "Resource.name": "Name by which todos refer to it.",
    "Resource.capacity": "Units that may be in use at once, over all runs.",
    "ResourceNeed.amount": "Units that the todo holds while it runs.",
    "Issue.repos": "The repositories that it concerns.",
    "Issue.target": "Target date.",
    "Issue.dependencies": "Issues, plans or todos that must be completed first.",
    "Issue.blocking": "Issues, plans or todos that wait for it.",
    "Issue.metadata": "Anything else, for your own tools.",
    "Issue.forge": "The issue at a forge that it is kept equal to; coord issue sync writes it.",
    "ForgeLink.id": "Where it is, such as github:acme/api#7.",
    "ForgeLink.marker": "Word by which an issue that is being created is found there.",
    "ForgeLink.synced": "Digest of each field as both sides had it last.",
    "Plan.repos": "Repositories whose open todos belong to the plan if no todo names it.",
    "Plan.target": "Target date.",
    "Plan.strategy": "Order of execution.",
    "Plan.on_failure": "Effect of a failed todo on the rest of the run.",
    "Plan.max_parallel": "Number of its todos that may run at once.",
    "Plan.timeout": "Time limit of a run; it is then rolled back if on_failure is rollback, else cancelled.",
    "Plan.recurring": "Each sweep runs all todos, including completed ones, and writes nothing back.",
    "Plan.two_persons": "Nobody approves a gate of a run that they ordered.",
    "Plan.qa": "When a sweep runs the checks of its repositories: before, after, both, none.",
    "PlanChecks.allow_red": "Continue although tests fail before the plan; they are reported.",
    "Plan.budget": "Limits of what the agents of its todos may use, over all its runs: {usd, tokens}.",
    "Plan.retry": "Retry rules for todos that declare none.",
    "Milestone.completion_criteria": (
        "Conditions for completion: text, or {text, check} where check is a command."
    ),
    "Todo.task": "Summary in one line.",
    "Todo.description": "Details; part of an agent's prompt.",
    "Todo.repo": "Repository that the todo works in.",
    "Todo.estimated_hours": "Estimate, used for ordering and forecasts.",
    "Todo.actual_hours": "Time taken, written by coord on completion.",
    "Todo.blocked_by": "Todos, issues or plans that must be completed first.",
    "Todo.blocking": "Todos, issues or plans that wait for it.",
    "Todo.acceptance_criteria": (
        "Conditions for completion, part of an agent's prompt: text, or {text, check} with a command."
    ),
    "Todo.plan": "The plan that it belongs to.",
    "Todo.action": "A command, or a mapping with a type (default: an agent).",
    "Todo.compensate": "Action that undoes the todo on rollback: a command, a function or a prompt.",
    "Todo.gate": "Wait for coord approve before the todo starts: true, or {timeout, on_timeout}.",
    "Milestone.gate": "Wait for coord approve before its dependents start: true, or {timeout, on_timeout}.",
    "Gate.two_persons": "Nobody approves it who ordered the run.",
    "Gate.timeout": "Time to wait for an approval; then on_timeout applies.",
    "Todo.timeout": "Time limit of one attempt: 90s, 10m or seconds.",
    "Todo.retry": "Rules for repeating the todo after a failure.",
    "Todo.resources": "Resources held while it runs, acquired together: names, or {name, amount}.",
    "Todo.env": "Environment variables of its command.",
    "Todo.secrets": "Names of credentials of the worker's machine (coord credential), given as files.",
    "Todo.workspace": "Folder that it works in: a worktree of the run, or the repository's path itself.",
    "Todo.cache": "Reuse an earlier success with the same action and inputs: true, or {inputs, ttl}.",
    "Todo.sandbox": "Sandbox of its command: off, bubblewrap, or {network, memory, processes}.",
    "Sandbox.network": "Access to the network (default: agents have it, other commands do not).",
    "Sandbox.memory": "Memory that all its processes may use together, such as 2GiB.",
    "Sandbox.processes": "Processes that may exist at once.",
    "Cache.inputs": "Inputs in addition to tracked files: paths or globs (**) in the repository.",
    "Cache.ttl": "Time for which a result is valid.",
    "ShellAction.run": "Command; text runs in sh -c, a list without a shell.",
    "ShellAction.read_only": "Fail if the command leaves a change in the worktree; commit nothing.",
    "QaAction.check": "Name of a check of the repository (default: its only one).",
    "QaAction.run": "Command of a check that the repository does not declare.",
    "QaAction.report": "JUnit XML that it writes: a path or glob in the repository.",
    "QaAction.retries": "How often it runs again where tests failed.",
    "QaAction.needs": "Repositories whose files decide the result (default: those of all predecessors).",
    "QaAction.allow_red": "Succeed although tests fail, and report it.",
    "RewriteAction.pattern": "Code to find, as ast-grep reads it: $NAME stands for one piece, $$$ for any.",
    "RewriteAction.rewrite": "Code to put in its place; an empty text deletes it.",
    "RewriteAction.lang": "Language of the code, such as python, typescript or go.",
    "RewriteAction.paths": "Files to search, as paths or globs in the repository (default: all).",
    "PythonAction.call": "The function, as package.module:function.",
    "PythonAction.args": "Its keyword arguments.",
    "AgentAction.prompt": "Prompt (default: task, description and acceptance criteria).",
    "AgentAction.agent": "Agents of the settings: the first attempt takes the first, a later one the next.",
    "AgentAction.verify": (
        "What its work must pass: commands, names of the repository's checks (default: those of kind unit)."
    ),
    "AgentAction.rounds": "Most starts of its program within an attempt.",
    "AgentAction.budget": "Limits of what it may use: {usd, tokens, turns}.",
    "AgentAction.paths": "Paths and globs that it may change, with ! those that it may not (default: all).",
    "AgentAction.continues": "Todo of the same plan and repository in whose session it goes on.",
    "AgentAction.reads": "Other repositories that it sees, read-only.",
    "AgentAction.read_only": "Fail if it changes a file; commit nothing.",
    "Budget.turns": "Steps of its program: requests to its model, or calls of its tools, as it counts them.",
    "Agent.name": "Name by which todos refer to it.",
    "Agent.kind": "Its program: how it is called, and how its output is read.",
    "Agent.model": "Model, handed to the program (default: the program's own).",
    "Agent.args": "Further arguments of the program.",
    "Agent.command": "The program, if it is not in PATH under the name of its kind; a command needs it.",
    "Agent.parallel": "Most todos that it executes at once, over all machines (default: any number).",
    "Agent.prices": "USD for a million tokens, for a program that tells no cost: {input, output, cached}.",
    "Prices.cached": "Tokens that the provider has in its cache (default: as input).",
    "Retry.attempts": "Number of attempts, including the first.",
    "Retry.delay": "Delay before the second attempt.",
    "Retry.strategy": "Growth of the delay with each failure.",
    "Retry.factor": "Factor by which an exponential delay grows.",
    "Retry.max_delay": "Upper bound of the delay.",
    "Retry.jitter": "Random part of the delay, so that todos that failed together are not retried together.",
    "Retry.retry_on": "Failures to retry: exit codes, timeout, {output: REGEX} (default: all).",
    "Retry.stop_on": "Failures never to retry; takes precedence over retry_on.",
    "OutputSign.output": "Regular expression, searched in each line of the attempt's last 64 KiB of output.",
    "Dependency.consumer": "The repository that needs the other.",
    "Dependency.provider": "The repository that is needed.",
    "Dependency.version_constraint": "Accepted versions, for example '>=1.4,<2'.",
    "Validation.expected_pattern": "Regular expression that the command's output must match.",
    "Validation.health_check": "An address that must answer.",
}
"""Descriptions that editors show for fields whose names do not explain everything."""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the file."""
    _, schema = models_json_schema([(Ecosystem, "validation"), (Settings, "validation")])
    definitions = schema["$defs"]
    for name, definition in definitions.items():
        if "properties" in definition:
            _finish(name, definition)
        else:
            definition["description"] = _enum_description(getattr(models, name), definition["enum"])
    definitions["Todo"]["properties"]["env"]["anyOf"][0]["additionalProperties"] = False
    definitions["Settings"]["properties"] = _settings(definitions["Settings"]["properties"])
    top = definitions.pop("Ecosystem")
    top["properties"]["settings"] |= {"anyOf": [{"$ref": "#/$defs/Settings"}, {"type": "null"}]}
    return {
        "$schema": DIALECT,
        **top,
        "title": "ecosystem.yaml",
        "description": "Repositories that work together, and the work that runs across them, for coord.",
        "$defs": definitions,
    }


def _finish(record: str, definition: dict[str, Any]) -> None:
    """Add the alternative forms and the descriptions to the definition of a record."""
    required = definition.get("required", ())
    may_be_empty = record != "Settings"
    for name, field in definition["properties"].items():
        if (record, name) in (("Todo", "action"), ("Todo", "compensate")):
            field["anyOf"][:0] = _BARE_COMMAND
        if name in ("gate", "cache"):
            field["anyOf"].insert(0, {"const": True})
        if name == "sandbox" and record != "Settings":
            field["anyOf"].insert(0, _SANDBOX)
        if (record, name) == ("Settings", "sandbox"):
            field |= {"enum": [*field["enum"], False], "type": ["string", "boolean"]}
        if (record, name) == ("LandRules", "waves"):
            items = {"anyOf": [_WAVE, {"$ref": "#/$defs/Wave"}]}
            field["anyOf"].insert(0, {"type": "array", "minItems": 1, "items": items})
        if name == "qa" and "items" in field:  # of a repository; that of `land` is a yes or no
            field = _with_short_forms(field)
        if bare := BARE_ITEMS.get((record, name)):
            field["items"] = {"anyOf": [bare, field["items"]]}
        field = _with_durations(field)
        if description := DESCRIPTIONS.get(f"{record}.{name}"):
            field["description"] = description
        definition["properties"][name] = _or_empty(field) if may_be_empty and name not in required else field


def _with_short_forms(checks: dict[str, Any]) -> dict[str, Any]:
    """Return the field `qa` of a repository or plan, with a command, one check, or a word in its place."""
    if "$ref" in checks:
        return {"anyOf": [{"$ref": "#/$defs/QaWhen"}, {"$ref": checks["$ref"]}]}
    check = checks["items"]
    head = {name: value for name, value in checks.items() if name not in ("items", "type")}
    return head | {"anyOf": [*_BARE_COMMAND, check, {"type": "array", "items": check}]}


def _with_durations(field: dict[str, Any]) -> dict[str, Any]:
    """Return the field with durations, and its default, in the file's notation."""
    if field.get("format") == "duration":
        default = {"default": _in_seconds(field["default"])} if "default" in field else {}
        return {k: v for k, v in field.items() if k == "title"} | default | DURATION
    if "anyOf" in field:
        field["anyOf"] = [_with_durations(choice) for choice in field["anyOf"]]
    return field


def _in_seconds(iso: str) -> str:
    return f"{TypeAdapter(timedelta).validate_python(iso).total_seconds():g}s"


def _or_empty(field: dict[str, Any]) -> dict[str, Any]:
    """Return the field's schema with null allowed, because an empty field counts as absent."""
    head = {k: field.pop(k) for k in ("title", "description", "default") if k in field}
    if head.get("default") is None:
        head.pop("default", None)
    choices = field["anyOf"] if set(field) == {"anyOf"} else [field]
    if {"type": "null"} in choices:
        return head | {"anyOf": choices}
    return head | {"anyOf": [*choices, {"type": "null"}]}


def _settings(properties: dict[str, Any]) -> dict[str, Any]:
    descriptions = _attribute_docstrings(Settings)
    return {
        name: field | ({"description": descriptions[name]} if name in descriptions else {})
        for name, field in properties.items()
    }


def _enum_description(enum: type[StrEnum], offered: Collection[str]) -> str:
    descriptions = {enum[name].value: text for name, text in _attribute_docstrings(enum).items()}
    return " · ".join(f"{value}: {text}" for value, text in descriptions.items() if value in offered) or (
        enum.__doc__ or ""
    )


def _attribute_docstrings(source: type[BaseModel] | type) -> dict[str, str]:
    """Return the docstrings of the attributes, which Python does not keep at run time."""
    (definition,) = ast.parse(inspect.getsource(source)).body
    assert isinstance(definition, ast.ClassDef)
    docstrings: dict[str, str] = {}
    for before, after in zip(definition.body, definition.body[1:], strict=False):
        match before, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                docstrings[name] = " ".join(text.split())
    return docstrings
