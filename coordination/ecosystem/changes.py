"""Changes that an edit collects, and their application to the whole file, with the values that it then has.

`RunOutcome`, the results of a run as far as the file records them, is here so that code that reads runs need
not import `editing.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from coordination.ecosystem.layout import RECORDS, model_at
from coordination.ecosystem.parsing import Document, Draft, Snapshot, parse
from coordination.ecosystem.yaml_text.fields import set_field
from coordination.ecosystem.yaml_text.lines import TextEdit, apply, item
from coordination.ecosystem.yaml_text.records import add_items, remove_item
from coordination.ecosystem.yaml_text.tree import Location, Plain, Tree, plain_value, read_tree
from coordination.errors import EditConflict, InvalidFile, NotFound, UsageError
from coordination.models import Record, Repo, Resource

RecordPath = tuple[str, ...]
"""Names that lead to a list or a record: ("todos", "TODO-001"), ("plans", "PLAN-001", "milestones")."""
TOP = ("repos", "resources")
"""Lists at the top level of the file."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """All changes of one edit. Locations refer to the file before the edit; fields are set first, then
    records are added, then removed.
    """

    fields: dict[Location, dict[str, Plain]] = field(default_factory=dict)
    removed: list[Location] = field(default_factory=list)
    added: dict[Location, dict[str, dict[str, Plain]]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.fields or self.removed or any(self.added.values()))


class Edit:
    """Collector of an edit's changes. `document` is the unchanged file, also while changes are collected."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.changes = Changes()
        self.remarks: dict[str, dict[str, Any]] = {}
        """Subject of an event of this edit → further facts for the history."""
        self._positions_by_list: dict[Location, dict[str, Location]] = {}

    def set(self, place: RecordPath, field: str, value: Plain) -> None:
        """Set a field of a record; None removes the field. Raises NotFound, UsageError.

        The place may also name a record inside a field, if that exists: ("dependencies", "DEP-1",
        "validation").
        """
        if field not in record_at(place if len(place) % 2 else place[:-1]).model_fields:
            raise UsageError(f"{place[-1]} has no field {field!r}", "see all fields: coord schema")
        if (new := self._new(place)) is not None:
            new[field] = value
        else:
            self.changes.fields.setdefault(self._location(place), {})[field] = value

    def add(self, place: RecordPath, record: Mapping[str, Plain]) -> None:
        """Append a record to a list, without the fields that are None. Raises UsageError if
        its id is taken.
        """
        kind = record_at(place)
        name = record[key_of(kind)]
        taken = self._positions(self._location(place)).get(name)
        added = self.changes.added.setdefault(self._location(place), {})
        if name in added or (taken is not None and taken not in self.changes.removed):
            raise UsageError(f"there is a {kind.__name__.lower()} {name} already", "choose another id")
        added[name] = {field: value for field, value in record.items() if value is not None}

    def remove(self, place: RecordPath) -> None:
        """Remove a record and the changes collected for it. Raises NotFound."""
        if self._new(place) is not None:
            del self.changes.added[self._location(place[:-1])][place[-1]]
            return
        location = self._location(place)
        for changed in [here for here in self.changes.fields if here[: len(location)] == location]:
            del self.changes.fields[changed]
        self.changes.removed.append(location)

    def _new(self, place: RecordPath) -> dict[str, Plain] | None:
        """Return the record that this edit adds at the place, or None."""
        if len(place) != 2:
            return None
        return self.changes.added.get(_list_location(place[0]), {}).get(place[1])

    def _location(self, place: RecordPath) -> Location:
        """Return the location of a list or a record before the edit."""
        if len(place) % 2:
            owner = self._location(place[:-1]) if len(place) > 1 else ()
            return (*owner, place[-1]) if owner else _list_location(place[-1])
        list_location = self._location(place[:-1])
        location = self._positions(list_location).get(place[-1])
        if location is None or any(location[: len(gone)] == gone for gone in self.changes.removed):
            kind = record_at(place[:-1]).__name__.lower()
            raise NotFound(
                f"there is no {kind} {place[-1]!r} in {self.document.path}", "see coord list-" + place[0]
            )
        return location

    def _positions(self, list_location: Location) -> dict[str, Location]:
        if list_location not in self._positions_by_list:
            records: Any = self.document.ecosystem
            for step in list_location:
                records = records[step] if isinstance(step, int) else getattr(records, step)
            key = key_of(type(records[0])) if records else ""
            self._positions_by_list[list_location] = {
                getattr(r, key): (*list_location, i) for i, r in enumerate(records)
            }
        return self._positions_by_list[list_location]


def record_at(list_place: RecordPath) -> type[Record]:
    """Return the type of the records in a list. Raises UsageError if there is no such list."""
    section, *inner = list_place[::2]
    try:
        return model_at((*_list_location(section), *inner))
    except KeyError as error:
        known = ", ".join(filter(None, RECORDS))
        raise UsageError(f"there is no list {'.'.join(list_place)!r}", f"known: {known}") from error


def key_of(record: type[Record]) -> str:
    """Return the name of the field that identifies a record."""
    return "name" if record in (Repo, Resource) else "id"


def _list_location(section: str) -> Location:
    return (section,) if section in TOP else ("coordination", section)


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """The results of a run as far as the file records them."""

    plan: str
    succeeded: Mapping[str, float | None]
    """Hours by todo; None for a todo whose result came from the cache, which took no time."""
    undone: Mapping[str, float | None]
    """Hours by todo, for todos whose success in this run, or in a run that it continues, was undone."""
    filed: frozenset[str] = frozenset()
    """Todos of `undone` that the file shows as completed because the run, or one that it continues, wrote
    that.
    """
    reopened: frozenset[str] = frozenset()
    """Todos that were written back as pending before; if they are completed now, a person has set that."""
    reached: frozenset[str] = frozenset()
    """Milestones of the plan that were approved."""
    lost: frozenset[str] = frozenset()
    """Milestones that had been approved before their todos were undone."""


_BY_HAND = "nothing was written; make the change by hand"


def revise(draft: Draft, changes: Changes) -> Snapshot:
    """Return the file with the changes. Raises EditConflict if they cannot be made without changing more."""
    path = draft.document.path
    try:
        result = parse(apply_changes(draft.tree, changes, str(path)), path)
    except InvalidFile as error:
        raise EditConflict(f"{path} cannot be edited safely: {error.message}", _BY_HAND) from error
    if not values_equal(result.data, expected_values(draft.data, changes)):
        raise EditConflict(
            f"{path} cannot be edited safely: the edit would change more than the intended values", _BY_HAND
        )
    return result.snapshot()


def apply_changes(tree: Tree, changes: Changes, file: str) -> bytes:
    """Return the bytes with the changes, not validated yet. Raises EditConflict, InvalidFile."""
    for step in _steps(changes):
        edits = [edit for change in step for edit in change(tree)]
        tree = read_tree(tree.encode(apply(tree.text, edits)), file)
    return tree.encode(tree.text)


Step = Callable[[Tree], list[TextEdit]]


def _steps(changes: Changes) -> Iterator[list[Step]]:
    """Yield groups of changes that can be made to one text: one field of each record, records added to one
    list, one removed.

    The first two records of a list are added one by one, because the later ones are written like them: then a
    thousand records need three texts, and not a thousand.

    Each group is applied to the result of the previous one, so that two new fields at one place get the right
    order. Removals come last, so that all locations stay those before the edit.
    """
    remaining = {location: _in_order(location, fields) for location, fields in changes.fields.items()}
    while remaining:
        yield [_set_step(location, *fields.pop(0)) for location, fields in remaining.items()]
        remaining = {location: fields for location, fields in remaining.items() if fields}
    for location, records in changes.added.items():
        new_records = list(records.values())
        for group in filter(None, (new_records[:1], new_records[1:2], new_records[2:])):
            yield [_add_step(location, group)]
    for location in sorted(changes.removed, reverse=True):
        yield [_remove_step(location)]


def _in_order(location: Location, fields: dict[str, Plain]) -> list[tuple[str, Plain]]:
    order = list(model_at(location).model_fields)
    return sorted(fields.items(), key=lambda field: order.index(field[0]))


def _set_step(location: Location, field: str, value: Plain) -> Step:
    order = list(model_at(location).model_fields)
    return lambda tree: set_field(tree.text, item(tree.root, *location), field, value, order)


def _remove_step(location: Location) -> Step:
    owner, key, index = location[:-2], str(location[-2]), int(location[-1])
    return lambda tree: remove_item(tree.text, item(tree.root, *owner), key, index)


def _add_step(location: Location, records: Sequence[dict[str, Plain]]) -> Step:
    order = list(model_at(location).model_fields)

    def add(tree: Tree) -> list[TextEdit]:
        assert tree.root is not None
        return add_items(tree.text, tree.root, location, records, order)

    return add


def expected_values(data: dict[str, Any], changes: Changes) -> dict[str, Any]:
    """Return the values with the changes; `data` is modified."""
    for location, fields in changes.fields.items():
        record = _value_at(data, location)
        for name, value in fields.items():
            if value is None:
                record.pop(name, None)
            else:
                record[name] = deepcopy(value)
    for location, records in changes.added.items():
        _list_at(data, location).extend(deepcopy(list(records.values())))
    for location in sorted(changes.removed, reverse=True):
        del _value_at(data, location[:-1])[location[-1]]
    return data


def _value_at(data: Any, location: Location) -> Any:
    for step in location:
        data = data[step]
    return data


def _list_at(data: Any, location: Location) -> list[Any]:
    """Return the list at a location; missing or empty sections are created."""
    for step in location[:-1]:
        if isinstance(step, str) and not data.get(step):
            data[step] = {}
        data = data[step]
    if not data.get(location[-1]):
        data[location[-1]] = []
    records: list[Any] = data[location[-1]]
    return records


def values_equal(found: Any, wanted: Any) -> bool:
    """Return whether the file's values equal the intended ones. A date may be written as text or as a date;
    .nan equals itself.
    """
    if isinstance(wanted, dict) and isinstance(found, dict):
        return wanted.keys() == found.keys() and all(
            values_equal(found[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list | tuple) and isinstance(found, list):
        return len(wanted) == len(found) and all(map(values_equal, found, wanted))
    if isinstance(found, date) and isinstance(wanted, str):
        return bool(found == plain_value(wanted))
    if isinstance(found, int | float) and isinstance(wanted, int | float):
        return isinstance(found, bool) == isinstance(wanted, bool) and (
            found == wanted or found != found != wanted
        )
    return bool(found == wanted)
