"""Messages for pydantic's validation errors: the expected value, and a suggestion where one is likely."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from coordination import models
from coordination.ecosystem import layout
from coordination.ecosystem.yaml_text.places import Diagnostic, Location, SourceMap
from coordination.models import SECRET
from coordination.settings import Settings
from coordination.text import WANTED, known_words, limit, nearest

RECORDS: dict[str, type[BaseModel]] = {**layout.RECORDS, "settings": Settings}

ACTIONS: dict[str, type[BaseModel]] = {
    "shell": models.ShellAction,
    "python": models.PythonAction,
    "agent": models.AgentAction,
    "manual": models.ManualAction,
    "noop": models.NoopAction,
    "rewrite": models.RewriteAction,
    "land": models.LandAction,
    "revert": models.RevertAction,
    "qa": models.QaAction,
    "service": models.ServiceAction,
}

USED_ELSEWHERE = {
    "depends_on": ("blocked_by", "dependencies"),
    "needs": ("blocked_by", "dependencies"),
    "requires": ("blocked_by", "dependencies"),
    "command": ("action", "run"),
    "run": ("action",),
    "cmd": ("run", "action"),
    "title": ("task", "name"),
    "name": ("task", "title"),
    "due": ("target",),
    "estimate": ("estimated_hours",),
    "owner": ("assignee",),
}
"""Names that other tools use, with coord's equivalents; the first that the record has is suggested."""


def diagnostics_of(
    error: ValidationError, source_map: SourceMap, prefix: Location = ()
) -> Iterator[Diagnostic]:
    """Yield one diagnostic for each place in the error; `prefix` is the location of the validated part in the
    file.
    """
    places: dict[Location, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        places.setdefault(_resolve((*prefix, *detail["loc"]), source_map.data, detail["type"]), []).append(
            detail
        )
    for location, details in places.items():
        shallow = all(d["type"] in WANTED or d["type"] == "too_short" for d in details)
        if shallow and any(
            len(other) > len(location) and other[: len(location)] == location for other in places
        ):
            continue  # one branch of `text or a list`; the other branch reports the problem inside the list
        yield _diagnostic(location, details, source_map)


def _resolve(loc: Iterable[str | int], data: Any, kind: str) -> Location:
    """Return pydantic's location without the names that it gives to the branches of a union."""
    location: list[str | int] = []
    steps = list(loc)
    absent = [steps.pop()] if kind == "missing" else []  # or written without a value
    for step in steps:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            continue
        location.append(step)
    return (*location, *absent)


def _diagnostic(location: Location, details: list[ErrorDetails], source_map: SourceMap) -> Diagnostic:
    if "env" in location[:-1] and SECRET.search(str(location[-1])):  # the value is not shown
        wanted = "needs text, a number, or true or false, under a name of letters, digits and _"
        return Diagnostic(location=location, message=wanted, show_value=False)
    strict = [d for d in details if d["type"] not in WANTED]
    if not strict:
        return Diagnostic(location=location, message=_wanted(location, details, source_map))
    detail = strict[0]
    kind = detail["type"]
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_field(location, source_map.data)
    if kind == "missing":
        return Diagnostic(location=location, message="is missing; it is required", show_value=False)
    if kind in ("enum", "literal_error", "union_tag_invalid"):
        return _unknown_word(location, context, detail["input"])
    if kind == "union_tag_not_found":
        return Diagnostic(location=location, message=f"needs a 'type', one of {', '.join(ACTIONS)}")
    return Diagnostic(location=location, message=limit(detail))


def _wanted(location: Location, details: list[ErrorDetails], source_map: SourceMap) -> str:
    kinds = list(dict.fromkeys(WANTED[d["type"]] for d in details))
    if "a number" in kinds and "a whole number" in kinds:
        kinds.remove("a whole number")
    message = "needs " + " or ".join(kinds)
    source = source_map.source(location)
    if kinds == ["a list"] and source:
        message += f": [{source}]"
    if "text" in kinds and source:
        message += f'; YAML reads this as {_yaml_kind(details[0]["input"])}, so put it in quotes: "{source}"'
    return message


def _yaml_kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "a number" if isinstance(value, int | float) else "nothing" if value is None else "a date"


def _unknown_word(location: Location, context: dict[str, Any], given: Any) -> Diagnostic:
    known = known_words(context)
    if isinstance(given, dict):  # an action, whose type is invalid
        location, given = (*location, "type"), given.get("type")
    suggestion = nearest(given, known) if isinstance(given, str) else ""
    return Diagnostic(location=location, message=f"must be one of {', '.join(known)}", suggestion=suggestion)


def _unknown_field(location: Location, data: Any) -> Diagnostic:
    *owner, field = location
    section = layout.section_of(tuple(owner))
    known = _fields(section, owner, data)
    suggestion = _other_name(str(field), known, section)
    message = "unknown field" if suggestion else f"unknown field; known here: {', '.join(known)}"
    return Diagnostic(location=location, message=message, suggestion=suggestion, show_value=False)


def _fields(section: str, owner: list[str | int], data: Any) -> list[str]:
    record = RECORDS.get(section)
    if record is None:
        for step in owner:
            data = data[step]
        record = ACTIONS[data["type"].lower()]
    return list(record.model_fields)


def _other_name(field: str, known: list[str], section: str) -> str:
    if not section and field in models.Coordination.model_fields:
        return f"coordination.{field}"
    familiar = (name for name in USED_ELSEWHERE.get(field, ()) if name in known)
    return nearest(field, known) or next(familiar, "")
