"""One operation on the file: the changes it writes, and the records as they will be afterwards.

Each step updates both the edit and the records, so that later steps, and the check for records that became
ready, see the future state. Steps look at one record; checks over all records run once, at the end of the
operation.

A new id is the highest number in the file plus one, with the prefix and width that the file uses. An id that
is only referred to counts as used, and an id that a deleted record had is skipped: its change set, runs and
history would become those of the new record.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from coordination.ecosystem.layout import Diagnostic, SourceMap, inside, where
from coordination.ecosystem.parsing import moment
from coordination.ecosystem.yaml_text.tree import Location
from coordination.errors import NotFound, UsageError
from coordination.models import HIDDEN, Ecosystem, Record, ResourceNeed, Todo, Validation, secrets_of
from coordination.tracker.kinds import Kind, R, TrackedRecord, check_transition
from coordination.tracker.relations import (
    Names,
    Relations,
    added_work,
    check_references,
    reference_values,
    referenced_ids,
)

if TYPE_CHECKING:
    from coordination.ecosystem.editing import Edit, RecordPath

_NUMBERED = re.compile(r"(.*?)(\d+)")


class Numbering:
    """Assign ids of one kind. `own` are its ids in the file's order, `taken` are all ids that must not be
    assigned.
    """

    def __init__(self, own: Sequence[str], taken: Iterable[str], first: str) -> None:
        numbered = _numbered(own)
        prefix = _most_frequent(prefix for prefix, _ in numbered) if numbered else _numbered([first])[0][0]
        digits = [digits for other, digits in (*numbered, *_numbered(taken)) if other == prefix]
        highest = max(digits, key=lambda text: (int(text), len(text)), default="")
        self._prefix = prefix
        self._width = len(highest or _numbered([first])[0][1])
        self._number = int(highest or 0)

    def next(self, *taken: Collection[str]) -> str:
        """Return the next id that is in none of these collections."""
        while True:
            self._number += 1
            name = f"{self._prefix}{self._number:0{self._width}d}"
            if not any(name in names for names in taken):
                return name


def _numbered(names: Iterable[str]) -> list[tuple[str, str]]:
    return [(match[1], match[2]) for name in names if (match := _NUMBERED.fullmatch(name))]


def _most_frequent(prefixes: Iterable[str]) -> str:
    """Return the most frequent prefix; of equally frequent ones the last used."""
    return Counter(list(prefixes)[::-1]).most_common(1)[0][0]


WRITTEN = ("status", "priority", "type")
"""Fields that are written into a new record even if they have their default value."""


class Transaction:
    """State of one operation. Nothing is written to the file before the edit is applied."""

    def __init__(self, edit: Edit, now: datetime, used: Callable[[], Collection[str]] = frozenset) -> None:
        """`used` returns the ids that deleted records had."""
        self._edit = edit
        self._now = now
        self._read_used = used
        self.document = edit.document
        self.before = edit.document.ecosystem
        self.names = Names(self.before)
        self.touched: dict[str, None] = {}
        """Ids of records that were removed, or whose status, blockers or dependents changed."""
        self.touched_milestones: dict[str, set[str]] = {}
        """Ids of changed milestones by plan."""
        self.explicit_status: set[str] = set()
        """Ids of the records whose status this operation has set."""
        self.reordered: dict[str, None] = {}
        """Ids of the records that might close a cycle."""
        self._latest = self.before
        self._changed: dict[str, dict[str, TrackedRecord]] = {}
        self._numbering: dict[str, Numbering] = {}

    @property
    def ecosystem(self) -> Ecosystem:
        """The records as they will be."""
        if self._changed:
            changed = {section: tuple(records.values()) for section, records in self._changed.items()}
            self._latest = self._latest.with_coordination(**changed)
            self._changed.clear()
        return self._latest

    @cached_property
    def relations_before(self) -> Relations:
        return Relations(self.before)

    def create(self, kind: Kind[R], fields: Mapping[str, Any]) -> R:
        """Create a record. Raises UsageError, NotFound, and Conflict for an id that is in use."""
        values = {name: value for name, value in fields.items() if value is not None}
        values = {"id": values.get("id") or self._next_id(kind), **values}
        values.setdefault("created", moment(self._now, self._last_created(kind)))
        record = validated(kind.noun, kind.model, values)
        values = as_validated(values, record)
        self.names.check_free(kind, record.id)
        # The new id was not known to the user, so the record cannot mean itself.
        if not fields.get("id") and record.id in added_work(record, None):
            hint = f"list the known ones: coord {kind.listed_by}"
            raise NotFound(f"there is no {kind.noun} {record.id!r}", hint)
        check_references(self.names, record)
        self.add((kind.section,), record, values)
        self.names.add(kind, record.id)
        self._store(kind, record)
        return record

    def update(self, kind: Kind[R], before: R, changes: Mapping[str, Any]) -> tuple[R, tuple[str, ...]]:
        """Return the record and the requested fields that differ; if none does, nothing is written."""
        after = with_changes(kind.noun, before, changes)
        changes = as_validated(changes, after)
        fields = differing(before, after, changes)
        if not fields:
            return before, ()
        check_transition(kind.noun, before.id, before.status, after.status)
        check_references(self.names, after, before)
        fields.setdefault("updated", self.update_stamp(before))
        after = with_changes(kind.noun, before, fields)
        self._write((kind.section, before.id), before, after, fields)
        self._store(kind, after, before)
        return after, tuple(field for field in fields if field in changes)

    def remove(self, kind: Kind[R], name: str) -> None:
        self.drop((kind.section, name))
        del self._records(kind)[name]
        self.touched[name] = None

    def set(self, place: RecordPath, fields: Mapping[str, Any]) -> None:
        for field, value in fields.items():
            self._edit.set(place, field, plain(value))

    def _write(self, place: RecordPath, before: Record, after: Record, fields: Mapping[str, Any]) -> None:
        """Write fields; of a validation only the parts that differ, so that the rest keeps its notation."""
        for field, value in fields.items():
            old, new = getattr(before, field), getattr(after, field)
            if isinstance(old, Validation) and isinstance(new, Validation):
                wanted = plain(value)
                parts = {part: wanted.get(part) for part in Validation.model_fields}
                self.set((*place, field), differing(old, new, parts))
            else:
                self.set(place, {field: value})

    def add(self, place: RecordPath, record: Record, fields: Mapping[str, Any]) -> None:
        """Add a record with its fields in the model's order."""
        names = type(record).model_fields
        written = {**{name: getattr(record, name) for name in WRITTEN if name in names}, **fields}
        ordered = {name: written[name] for name in names if name in written}
        self._edit.add(place, plain(ordered))

    def remark(self, subject: str, **data: Any) -> None:
        """Add facts to the event of a record, which the history keeps."""
        self._edit.remarks.setdefault(subject, {}).update(data)

    def drop(self, place: RecordPath) -> None:
        self._edit.remove(place)

    def store(self, kind: Kind[R], record: R) -> None:
        self._records(kind)[record.id] = record

    def find(self, kind: Kind[R], name: str) -> R | None:
        record = self._records(kind).get(name)
        return record if isinstance(record, kind.model) else None

    def get(self, kind: Kind[R], name: str) -> R:
        """Return the record. Raises NotFound with a suggestion."""
        return self.find(kind, name) or kind.get(self.ecosystem, name)

    def update_stamp(self, record: TrackedRecord) -> str:
        return moment(self._now, record.updated or record.created)

    def _store(self, kind: Kind[R], after: R, before: R | None = None) -> None:
        self.store(kind, after)
        if before is not None and before.status != after.status:
            self.explicit_status.add(after.id)
            self.touched[after.id] = self.reordered[after.id] = None
        if before is not None and reference_values(after) != reference_values(before):
            self.touched[after.id] = None
        if added_work(after, before) or getattr(after, "plan", None) != getattr(before, "plan", None):
            self.reordered[after.id] = None

    def _records(self, kind: Kind[R]) -> dict[str, TrackedRecord]:
        """Return the records of that section, which the caller may modify."""
        if kind.section not in self._changed:
            self._changed[kind.section] = {record.id: record for record in kind.all(self._latest)}
        return self._changed[kind.section]

    def _next_id(self, kind: Kind[R]) -> str:
        if kind.section not in self._numbering:
            own = [record.id for record in kind.all(self.before)]
            taken = self.names.of(kind) | referenced_ids(self.before)
            self._numbering[kind.section] = Numbering(own, taken, kind.first_id)
        return self._numbering[kind.section].next(self.names.of(kind), self._used)

    @cached_property
    def _used(self) -> Collection[str]:
        return self._read_used()

    def _last_created(self, kind: Kind[R]) -> object:
        """Return the date of the last record that has one, whose form a new record follows."""
        return next((record.created for record in reversed(kind.all(self.before)) if record.created), None)


def differing(before: Record, after: Record, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the requested fields whose values differ."""
    return {name: changes[name] for name in changes if getattr(after, name) != getattr(before, name)}


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


def with_changes(noun: str, record: M, changes: Mapping[str, Any]) -> M:
    """Return the record with changed fields; None removes a field. Raises UsageError."""
    if "id" in changes and changes["id"] != getattr(record, "id", None):
        raise UsageError(
            f"{record.id}: the id of a record cannot be changed, "  # type: ignore[attr-defined]
            "because others name it",
            "create another one and delete this one",
        )
    return validated(noun, type(record), {**written(record), **changes}, getattr(record, "id", ""))


def written(record: Record) -> dict[str, Any]:
    """Return the fields that the file has, in the model's order, with their validated values."""
    names = record.model_fields_set
    return {name: _unpacked(getattr(record, name)) for name in type(record).model_fields if name in names}


def as_validated(value: Any, read: Any) -> Any:
    """Return the value with enumeration values in lower case, as the record has them."""
    if isinstance(value, str) and isinstance(read, str):
        return read.value if isinstance(read, Enum) else read
    if isinstance(value, Mapping) and isinstance(read, Record):
        return {name: as_validated(inner, getattr(read, name, None)) for name, inner in value.items()}
    return value


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
    from yaml.nodes import ScalarNode

    from coordination.ecosystem.diagnostics import diagnostics_of

    place = PLACES[noun]
    data: Any = dict(fields)
    for step in reversed(place):
        data = [data] if step == 0 else {step: data}
    source_map = SourceMap(file="", root=ScalarNode("", ""), data=data)
    diagnostics = list(diagnostics_of(error, source_map, prefix=place))
    lines = [_sentence(diagnostic, len(place), fields) for diagnostic in diagnostics]
    subject = name or f"the new {noun}"
    message = f"{subject}: {lines[0]}" if len(lines) == 1 else "\n  - ".join([f"{subject}:", *lines])
    suggestions = [diagnostic.suggestion for diagnostic in diagnostics if diagnostic.suggestion]
    hint = (
        f"did you mean {', '.join(suggestions)}?"
        if suggestions
        else "correct that and try again; all fields: coord schema"
    )
    return UsageError(message, hint)


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
