"""The JSON Schema of ecosystem.yaml, so that editors complete and check while people type.

It says what the records say; what they accept in a second form (a command as bare text, a criterion as text, a
resource as its name, a duration as a number, a field left empty) is added here.
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

DESCRIPTIONS = {
    "Ecosystem.settings": "Settings of coord for this ecosystem; the environment (COORD_<NAME>) and options count more.",
    "Ecosystem.repos": "The repositories that work together.",
    "Ecosystem.resources": "What todos share: a database, a device, an account, whatever not all of them may use at once.",
    "Ecosystem.coordination": "The issues, plans, todos and dependencies that run across the repositories.",
    "Coordination.id": "Tells this ecosystem from others on one Redis: random, and the same in every copy of the file.",
    "Repo.name": "What the rest of the file calls it.",
    "Repo.path": "Where its checkout is, relative to this file.",
    "Repo.url": "Where it is cloned from.",
    "Repo.branch": "The branch that runs start from.",
    "Repo.role": "What it is for, in your own words: list-repos filters by it.",
    "Repo.slots": "How many runs may work on it at once.",
    "Repo.prepare": "Makes a fresh worktree usable, e.g. its virtual environment; run once per worktree.",
    "Repo.qa": "Its own check command.",
    "Repo.submodules": "Whether worktrees get its submodules; by default those that the checkout has.",
    "Repo.workspace": "Where its todos work that do not say it: a worktree of the run, or the path itself.",
    "Resource.name": "What todos call it that need it.",
    "Resource.capacity": "How many units of it may be in use at once, over all runs.",
    "ResourceNeed.amount": "How many units it holds while it runs.",
    "Issue.repos": "The repositories that it concerns.",
    "Issue.target": "The day by which it should be done.",
    "Issue.dependencies": "Issues, plans or todos that must be done first.",
    "Issue.blocking": "Issues, plans or todos that wait for it.",
    "Issue.metadata": "Anything else, for your own tools.",
    "Plan.repos": "A plan that no todo names owns the open todos of these repositories.",
    "Plan.target": "The day by which it should be done.",
    "Plan.strategy": "How its todos are ordered in time.",
    "Plan.on_failure": "What happens to the rest when a todo fails.",
    "Plan.max_parallel": "How many of its todos may run at once.",
    "Plan.timeout": "When a run of it is ended: undone where its failures are, else cancelled.",
    "Plan.recurring": "Each sweep runs all its todos, also completed ones, and nothing is written back.",
    "Plan.retry": "For its todos: what these do not say themselves.",
    "Milestone.completion_criteria": "What must hold: words, or {text, check} where check is a command.",
    "Todo.task": "What is to be done, in a line.",
    "Todo.description": "More about it; part of the prompt of an agent.",
    "Todo.repo": "The repository that it is done in.",
    "Todo.estimated_hours": "Orders the work and forecasts the run.",
    "Todo.actual_hours": "Written by coord when it is completed.",
    "Todo.blocked_by": "Todos, issues or plans that must be done first.",
    "Todo.blocking": "Todos, issues or plans that wait for it.",
    "Todo.acceptance_criteria": "What must hold when it is done; part of the prompt of an agent.",
    "Todo.plan": "The plan that it belongs to.",
    "Todo.action": "How it is done: a command, or a mapping with a type. Without one, an agent is asked.",
    "Todo.compensate": "Undoes it, when its run is rolled back: a command, or what to call or to tell an agent.",
    "Todo.gate": "It begins only after coord approve: true, or {timeout, on_timeout}.",
    "Milestone.gate": "What waits for it begins only after coord approve: true, or {timeout, on_timeout}.",
    "Gate.timeout": "When nobody has come by then, on_timeout says what becomes of it.",
    "Todo.timeout": "How long one attempt may take: 90s, 10m or seconds.",
    "Todo.retry": "When to try again after a failure.",
    "Todo.resources": "What it holds while it runs, all of it or nothing: names, or {name, amount}.",
    "Todo.env": "Environment variables of its command.",
    "Todo.workspace": "Where it works: a worktree of the run, or the repository's path itself.",
    "Todo.cache": "An earlier success of the same, from the same, is taken instead of running it: true, or {inputs, ttl}.",
    "Cache.inputs": "Files that count beside what git tracks, which always does: paths or globs (**) in the repository.",
    "Cache.ttl": "How long a result is good for.",
    "ShellAction.run": "A text runs in sh -c, a list without a shell.",
    "PythonAction.call": "The function, as package.module:function.",
    "PythonAction.args": "Its keyword arguments.",
    "AgentAction.prompt": "What the agent is told; without it, task, description and acceptance criteria.",
    "Retry.attempts": "How often in all, the first included.",
    "Retry.delay": "Before the second attempt.",
    "Retry.strategy": "How the delay grows from one failure to the next.",
    "Retry.factor": "By which an exponential delay grows each time.",
    "Retry.max_delay": "Beyond which it does not grow.",
    "Retry.jitter": "Whether the delay is drawn below that, so that those who failed together do not come back together.",
    "Retry.retry_on": "Only after these failures: exit codes, timeout, {output: REGEX}. Without any, after all.",
    "Retry.stop_on": "Not after these failures, whatever else they show.",
    "OutputSign.output": "A regular expression, looked for in each line of the last 64 KiB that the attempt wrote.",
    "Dependency.consumer": "The repository that needs the other.",
    "Dependency.provider": "The repository that is needed.",
    "Dependency.version_constraint": "Which versions will do, e.g. '>=1.4,<2'.",
    "Validation.expected_pattern": "What the command must print, as a regular expression.",
    "Validation.health_check": "An address that must answer.",
}
"""What an editor shows beside a field whose name does not say it all."""


def json_schema() -> dict[str, Any]:
    _, schema = models_json_schema([(Ecosystem, "validation"), (Settings, "validation")])
    definitions = schema["$defs"]
    for name, definition in definitions.items():
        if "properties" in definition:
            _finish(name, definition)
        else:
            definition["description"] = _enum_words(getattr(models, name), definition["enum"])
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
    required = definition.get("required", ())
    may_be_empty = record != "Settings"
    for name, field in definition["properties"].items():
        if (record, name) in (("Todo", "action"), ("Todo", "compensate")):
            field["anyOf"][:0] = _BARE_COMMAND
        if name in ("gate", "cache"):
            field["anyOf"].insert(0, {"const": True})
        if (record, name) == ("Milestone", "completion_criteria"):
            field["items"] = {"anyOf": [_TEXT, field["items"]]}
        if (record, name) == ("Todo", "resources"):
            field["items"] = {"anyOf": [_RESOURCE, field["items"]]}
        field = _with_durations(field)
        if words := DESCRIPTIONS.get(f"{record}.{name}"):
            field["description"] = words
        definition["properties"][name] = _or_empty(field) if may_be_empty and name not in required else field


def _with_durations(field: dict[str, Any]) -> dict[str, Any]:
    """The field with durations as people write them, its default as well."""
    if field.get("format") == "duration":
        default = {"default": _short(field["default"])} if "default" in field else {}
        return {k: v for k, v in field.items() if k == "title"} | default | DURATION
    if "anyOf" in field:
        field["anyOf"] = [_with_durations(choice) for choice in field["anyOf"]]
    return field


def _short(iso: str) -> str:
    return f"{TypeAdapter(timedelta).validate_python(iso).total_seconds():g}s"


def _or_empty(field: dict[str, Any]) -> dict[str, Any]:
    """A name with nothing after it counts as not written."""
    head = {k: field.pop(k) for k in ("title", "description", "default") if k in field}
    if head.get("default") is None:
        head.pop("default", None)
    choices = field["anyOf"] if set(field) == {"anyOf"} else [field]
    if {"type": "null"} in choices:
        return head | {"anyOf": choices}
    return head | {"anyOf": [*choices, {"type": "null"}]}


def _settings(properties: dict[str, Any]) -> dict[str, Any]:
    words = _attribute_docstrings(Settings)
    return {name: field | ({"description": words[name]} if name in words else {}) for name, field in properties.items()}


def _enum_words(enum: type[StrEnum], offered: Collection[str]) -> str:
    words = {enum[name].value: text for name, text in _attribute_docstrings(enum).items()}
    return " · ".join(f"{value}: {text}" for value, text in words.items() if value in offered) or (enum.__doc__ or "")


def _attribute_docstrings(source: type[BaseModel] | type) -> dict[str, str]:
    """The text under each attribute, which Python itself does not keep."""
    (definition,) = ast.parse(inspect.getsource(source)).body
    assert isinstance(definition, ast.ClassDef)
    words: dict[str, str] = {}
    for before, after in zip(definition.body, definition.body[1:], strict=False):
        match before, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                words[name] = text
    return words
