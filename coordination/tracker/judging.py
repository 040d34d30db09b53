"""What people ask for, judged by the models, in the words in which a file would be judged."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from enum import Enum
from typing import Any, TypeVar

from pydantic import ValidationError
from yaml.nodes import ScalarNode

from coordination.ecosystem.wording import complaints_of
from coordination.ecosystem.yaml_text.places import Diagnostic, Location, SourceMap, inside, where
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
"""Where a record of the kind stands in a file that holds nothing else."""


def judged(noun: str, model: type[M], fields: Mapping[str, Any], name: str = "") -> M:
    """The record; raises UsageError with everything that is wrong at once."""
    try:
        record = model.model_validate(dict(fields))
    except ValidationError as error:
        raise _refusal(noun, error, fields, name) from error
    _refuse_hidden(record)
    return record


def _refuse_hidden(record: Record) -> None:
    """A record that was printed and is given back would lose its secrets."""
    if isinstance(record, Todo) and HIDDEN in secrets_of(record):
        raise UsageError(
            f"{record.id}: a secret of its env is {HIDDEN!r}, which coord shows instead of a value",
            "give the value itself",
        )


def changed(noun: str, record: M, changes: Mapping[str, Any]) -> M:
    """The record with other fields; None takes one out. Raises UsageError."""
    if "id" in changes and changes["id"] != getattr(record, "id", None):
        raise UsageError(
            f"{record.id}: the id of a record stays, since others name it",  # type: ignore[attr-defined]
            "create another one and delete this one",
        )
    return judged(noun, type(record), {**written(record), **changes}, getattr(record, "id", ""))


def written(record: Record) -> dict[str, Any]:
    """The fields that the file gives, in the order of the model, with their values as the models have them."""
    given = record.model_fields_set
    return {name: _unpacked(getattr(record, name)) for name in type(record).model_fields if name in given}


def as_read(given: Any, read: Any) -> Any:
    """The given value with the words of enumerations as the record has them: in lower case."""
    if isinstance(given, str) and isinstance(read, str):
        return read.value if isinstance(read, Enum) else read
    if isinstance(given, Mapping) and isinstance(read, Record):
        return {name: as_read(value, getattr(read, name, None)) for name, value in given.items()}
    return given


def fields_of(record: Record | Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a record was given, as JSON knows them; those of a mapping as they are."""
    return (
        {name: plain(value) for name, value in written(record).items()} if isinstance(record, Record) else dict(record)
    )


def plain(value: Any) -> Any:
    """A value as JSON knows it, which is how edits take it."""
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
    atlas = SourceMap(file="", root=ScalarNode("", ""), data=data)
    complaints = list(complaints_of(error, atlas, prefix=place))
    lines = [_sentence(complaint, len(place), fields) for complaint in complaints]
    subject = name or f"the new {noun}"
    words = f"{subject}: {lines[0]}" if len(lines) == 1 else "\n  - ".join([f"{subject}:", *lines])
    meant = [complaint.suggestion for complaint in complaints if complaint.suggestion]
    hint = f"did you mean {', '.join(meant)}?" if meant else "correct that and try again; all fields: coord schema"
    return UsageError(words, hint)


def _sentence(complaint: Diagnostic, depth: int, fields: Mapping[str, Any]) -> str:
    location = complaint.location[depth:]
    value: Any = fields
    for step in location:
        value = inside(list(value) if isinstance(value, tuple) else value, step)
    shown = complaint.show_value and value is not None and not isinstance(value, dict | list | tuple)
    return _said(where(location, {}), complaint.message) + (f", got {plain(value)!r}" if shown else "")


def _said(field: str, message: str) -> str:
    unknown = "unknown field"
    if message.startswith(unknown):
        return f"{unknown} {field!r}{message.removeprefix(unknown)}"
    return f"{field}: {message}" if message.startswith("a ") else f"{field} {message}"
