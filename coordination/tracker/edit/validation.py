"""Validation of records that users create or change, with the same messages as for a file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from enum import Enum
from typing import Any, TypeVar

from pydantic import ValidationError
from yaml.nodes import ScalarNode

from coordination.ecosystem.diagnostics import diagnostics_of
from coordination.ecosystem.layout import Diagnostic, SourceMap, inside, where
from coordination.ecosystem.yaml_text.tree import Location
from coordination.errors import UsageError
from coordination.models import HIDDEN, Record, ResourceNeed, Todo, secrets_of

M = TypeVar("M", bound=Record)

PLACES: Mapping[str, Location] = {
    "issue": ("coordination", "issues", 0),
    "plan": ("coordination", "plans", 0),
    "todo": ("coordination", "todos", 0),
    "dependency": ("coordination", "dependencies", 0),
    "milestone": ("coordination", "plans", 0, "milestones", 0),
}
"""Location of a record of each kind in a file that holds nothing else."""


def validated(noun: str, model: type[M], fields: Mapping[str, Any], name: str = "") -> M:
    """Return the record. Raises UsageError with all problems at once."""
    try:
        record = model.model_validate(dict(fields))
    except ValidationError as error:
        raise _refusal(noun, error, fields, name) from error
    _refuse_hidden(record)
    return record


def _refuse_hidden(record: Record) -> None:
    """Raise UsageError for a todo that was printed and given back, which would replace its secrets by the
    mask.
    """
    if isinstance(record, Todo) and HIDDEN in secrets_of(record):
        raise UsageError(
            f"{record.id}: a secret in its env is {HIDDEN!r}, "
            "the mask that coord prints instead of the value",
            "give the value itself",
        )


def changed(noun: str, record: M, changes: Mapping[str, Any]) -> M:
    """Return the record with changed fields; None removes a field. Raises UsageError."""
    if "id" in changes and changes["id"] != getattr(record, "id", None):
        raise UsageError(
            f"{record.id}: the id of a record cannot be changed, "  # type: ignore[attr-defined]
            "because others name it",
            "create another one and delete this one",
        )
    return validated(noun, type(record), {**written(record), **changes}, getattr(record, "id", ""))


def written(record: Record) -> dict[str, Any]:
    """Return the fields that the file gives, in the model's order, with their validated values."""
    given = record.model_fields_set
    return {name: _unpacked(getattr(record, name)) for name in type(record).model_fields if name in given}


def as_read(given: Any, read: Any) -> Any:
    """Return the given value with enumeration values in lower case, as the record has them."""
    if isinstance(given, str) and isinstance(read, str):
        return read.value if isinstance(read, Enum) else read
    if isinstance(given, Mapping) and isinstance(read, Record):
        return {name: as_read(value, getattr(read, name, None)) for name, value in given.items()}
    return given


def fields_of(record: Record | Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that a record was given as JSON values; a mapping is returned unchanged."""
    return (
        {name: plain(value) for name, value in written(record).items()}
        if isinstance(record, Record)
        else dict(record)
    )


def plain(value: Any) -> Any:
    """Return a value as a JSON value, the form that edits take."""
    match value:
        case ResourceNeed() if "amount" not in value.model_fields_set:
            return value.name
        case Record():
            return {name: plain(item) for name, item in written(value).items()}
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case tuple() | list() | set() | frozenset():
            return [plain(item) for item in value]
        case Enum():
            return value.value
        case timedelta():
            return seconds if (seconds := value.total_seconds()) % 1 else int(seconds)
        case date():
            return value.isoformat()
        case _:
            return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, Record):
        return written(value)
    return tuple(map(_unpacked, value)) if isinstance(value, tuple) else value


def _refusal(noun: str, error: ValidationError, fields: Mapping[str, Any], name: str) -> UsageError:
    place = PLACES[noun]
    data: Any = dict(fields)
    for step in reversed(place):
        data = [data] if step == 0 else {step: data}
    source_map = SourceMap(file="", root=ScalarNode("", ""), data=data)
    diagnostics = list(diagnostics_of(error, source_map, prefix=place))
    lines = [_sentence(diagnostic, len(place), fields) for diagnostic in diagnostics]
    subject = name or f"the new {noun}"
    words = f"{subject}: {lines[0]}" if len(lines) == 1 else "\n  - ".join([f"{subject}:", *lines])
    meant = [diagnostic.suggestion for diagnostic in diagnostics if diagnostic.suggestion]
    hint = (
        f"did you mean {', '.join(meant)}?"
        if meant
        else "correct that and try again; all fields: coord schema"
    )
    return UsageError(words, hint)


def _sentence(diagnostic: Diagnostic, depth: int, fields: Mapping[str, Any]) -> str:
    location = diagnostic.location[depth:]
    value: Any = fields
    for step in location:
        value = inside(list(value) if isinstance(value, tuple) else value, step)
    shown = diagnostic.show_value and value is not None and not isinstance(value, dict | list | tuple)
    return _with_field(where(location, {}), diagnostic.message) + (f", got {plain(value)!r}" if shown else "")


def _with_field(field: str, message: str) -> str:
    unknown = "unknown field"
    if message.startswith(unknown):
        return f"{unknown} {field!r}{message.removeprefix(unknown)}"
    return f"{field}: {message}" if message.startswith("a ") else f"{field} {message}"
