"""Changes that an edit collects before it is applied: fields set, records added, records removed.

A place is a section of `coordination` (or `repos`, `resources`) and the id of a record in it; for a
milestone, the section and id of its plan come first: ("todos", "TODO-001"), ("plans", "PLAN-001",
"milestones", "M1").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coordination.ecosystem.layout import RECORDS, model_at
from coordination.ecosystem.parsing import Document
from coordination.ecosystem.yaml_text.places import Location
from coordination.ecosystem.yaml_text.values import Plain
from coordination.errors import NotFound, UsageError
from coordination.models import Record, Repo, Resource

Place = tuple[str, ...]
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
        self._known: dict[Location, dict[str, Location]] = {}

    def set(self, place: Place, field: str, value: Plain) -> None:
        """Set a field of a record; None removes the field. Raises NotFound, UsageError.

        The place may also name a record inside a field, if that exists: ("dependencies", "DEP-1",
        "validation").
        """
        if field not in record_at(place if len(place) % 2 else place[:-1]).model_fields:
            raise UsageError(
                f"{place[-1]} has no field {field!r}", "see the fields in the README, section The file"
            )
        if (new := self._new(place)) is not None:
            new[field] = value
        else:
            self.changes.fields.setdefault(self._location(place), {})[field] = value

    def add(self, place: Place, record: Mapping[str, Plain]) -> None:
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

    def remove(self, place: Place) -> None:
        """Remove a record and the changes collected for it. Raises NotFound."""
        if self._new(place) is not None:
            del self.changes.added[self._location(place[:-1])][place[-1]]
            return
        location = self._location(place)
        for changed in [here for here in self.changes.fields if here[: len(location)] == location]:
            del self.changes.fields[changed]
        self.changes.removed.append(location)

    def _new(self, place: Place) -> dict[str, Plain] | None:
        """Return the record that this edit adds at the place, or None."""
        if len(place) != 2:
            return None
        return self.changes.added.get(_list_location(place[0]), {}).get(place[1])

    def _location(self, place: Place) -> Location:
        """Return the location of a list or a record before the edit."""
        if len(place) % 2:
            owner = self._location(place[:-1]) if len(place) > 1 else ()
            return (*owner, place[-1]) if owner else _list_location(place[-1])
        here = self._location(place[:-1])
        location = self._positions(here).get(place[-1])
        if location is None or any(location[: len(gone)] == gone for gone in self.changes.removed):
            kind = record_at(place[:-1]).__name__.lower()
            raise NotFound(
                f"there is no {kind} {place[-1]!r} in {self.document.path}", "see coord list-" + place[0]
            )
        return location

    def _positions(self, list_location: Location) -> dict[str, Location]:
        if list_location not in self._known:
            records: Any = self.document.ecosystem
            for step in list_location:
                records = records[step] if isinstance(step, int) else getattr(records, step)
            key = key_of(type(records[0])) if records else ""
            self._known[list_location] = {getattr(r, key): (*list_location, i) for i, r in enumerate(records)}
        return self._known[list_location]


def record_at(list_place: Place) -> type[Record]:
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
