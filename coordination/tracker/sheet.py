"""One operation on the file: what it writes, and the records as they will then be.

Each step goes to the edit and to the records alike, so that the next step, and the question of what became ready, see
the file as it will be. A step looks at one record; what looks at all of them is done once, at the end of the operation.

A new id is one more than the highest number in use, in the prefix and the width that the file uses. A count would give an id that
exists after a deletion. An id that is only referred to counts as in use.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from coordination.ecosystem.editing import Edit, Place
from coordination.ecosystem.parsing import moment
from coordination.models import Ecosystem, Record, Validation
from coordination.tracker import judging
from coordination.tracker.kinds import Kept, Kind, R, check_move, unknown
from coordination.tracker.references import Names, added_work, check_references, mentioned, named
from coordination.tracker.ties import Relations

_NUMBERED = re.compile(r"(.*?)(\d+)")


class Numbering:
    """Of one kind of records. `own` are its ids in the file's order, `taken` is whatever must not be given."""

    def __init__(self, own: Sequence[str], taken: Iterable[str], first: str) -> None:
        numbered = _numbered(own)
        prefix = _usual(prefix for prefix, _ in numbered) if numbered else _numbered([first])[0][0]
        digits = [digits for other, digits in (*numbered, *_numbered(taken)) if other == prefix]
        highest = max(digits, key=lambda text: (int(text), len(text)), default="")
        self._prefix = prefix
        self._width = len(highest or _numbered([first])[0][1])
        self._number = int(highest or 0)

    def next(self, taken: Collection[str] = ()) -> str:
        """`taken` is what has been given by hand since."""
        while True:
            self._number += 1
            name = f"{self._prefix}{self._number:0{self._width}d}"
            if name not in taken:
                return name


def _numbered(names: Iterable[str]) -> list[tuple[str, str]]:
    return [(match[1], match[2]) for name in names if (match := _NUMBERED.fullmatch(name))]


def _usual(prefixes: Iterable[str]) -> str:
    """The most frequent; of equals the one that was used last."""
    return Counter(list(prefixes)[::-1]).most_common(1)[0][0]


WRITTEN = ("status", "priority", "type")
"""Fields that a careful person writes into a new record even where they have their usual value."""


class Transaction:
    """What a deed works on. Nothing is in the file before the edit is done."""

    def __init__(self, edit: Edit, now: datetime) -> None:
        self._edit = edit
        self._now = now
        self.before = edit.document.ecosystem
        self.names = Names(self.before)
        self.touched: dict[str, None] = {}
        """Ids of the records that were removed, or of which the status or what they wait for and hold up has changed."""
        self.touched_milestones: dict[str, set[str]] = {}
        """By plan."""
        self.given_status: set[str] = set()
        """Ids of the records whose status somebody has set."""
        self.reordered: dict[str, None] = {}
        """Ids of the records that might close a cycle."""
        self._latest = self.before
        self._changed: dict[str, dict[str, Kept]] = {}
        self._numbering: dict[str, Numbering] = {}

    @property
    def ecosystem(self) -> Ecosystem:
        """As it will be."""
        if self._changed:
            changed = {section: tuple(records.values()) for section, records in self._changed.items()}
            self._latest = self._latest.with_coordination(**changed)
            self._changed.clear()
        return self._latest

    @cached_property
    def ties_before(self) -> Relations:
        return Relations(self.before)

    def create(self, kind: Kind[R], fields: Mapping[str, Any]) -> R:
        """Raises UsageError, NotFound, and Conflict for an id that is in use."""
        given = {name: value for name, value in fields.items() if value is not None}
        given = {"id": given.get("id") or self._next_id(kind), **given}
        given.setdefault("created", moment(self._now, self._last_written(kind)))
        record = judging.judged(kind.noun, kind.model, given)
        given = judging.as_read(given, record)
        self.names.check_free(kind, record.id)
        if not fields.get("id") and record.id in added_work(
            record, None
        ):  # nobody can mean a record that is not there yet
            raise unknown(kind.noun, record.id, (), kind.listed_by)
        check_references(self.names, record)
        self.add((kind.section,), record, given)
        self.names.add(kind, record.id)
        self._keep_in_order(kind, record)
        return record

    def update(self, kind: Kind[R], before: R, changes: Mapping[str, Any]) -> tuple[R, tuple[str, ...]]:
        """The record and the names of the fields that were asked for and differ; with none nothing is written."""
        after = judging.changed(kind.noun, before, changes)
        changes = judging.as_read(changes, after)
        fields = differing(before, after, changes)
        if not fields:
            return before, ()
        check_move(kind.noun, before.id, before.status, after.status)
        check_references(self.names, after, before)
        fields.setdefault("updated", self.stamp(before))
        after = judging.changed(kind.noun, before, fields)
        self._write((kind.section, before.id), before, after, fields)
        self._keep_in_order(kind, after, before)
        return after, tuple(field for field in fields if field in changes)

    def remove(self, kind: Kind[R], name: str) -> None:
        self.drop((kind.section, name))
        del self._records(kind)[name]
        self.touched[name] = None

    def set(self, place: Place, fields: Mapping[str, Any]) -> None:
        for field, value in fields.items():
            self._edit.set(place, field, judging.plain(value))

    def _write(self, place: Place, before: Record, after: Record, fields: Mapping[str, Any]) -> None:
        """Of a validation only what differs: how the rest of it is written is its author's."""
        for field, value in fields.items():
            old, new = getattr(before, field), getattr(after, field)
            if isinstance(old, Validation) and isinstance(new, Validation):
                asked = judging.plain(value)
                parts = {part: asked.get(part) for part in Validation.model_fields}
                self.set((*place, field), differing(old, new, parts))
            else:
                self.set(place, {field: value})

    def add(self, place: Place, record: Record, given: Mapping[str, Any]) -> None:
        """In the order of the model."""
        usual = {name: getattr(record, name) for name in WRITTEN if name in type(record).model_fields}
        fields = {**usual, **given}
        ordered = {name: fields[name] for name in type(record).model_fields if name in fields}
        self._edit.add(place, judging.plain(ordered))

    def drop(self, place: Place) -> None:
        self._edit.remove(place)

    def keep(self, kind: Kind[R], record: R) -> None:
        self._records(kind)[record.id] = record

    def find(self, kind: Kind[R], name: str) -> R | None:
        record = self._records(kind).get(name)
        return record if isinstance(record, kind.model) else None

    def get(self, kind: Kind[R], name: str) -> R:
        """Raises NotFound with what was probably meant."""
        return self.find(kind, name) or kind.get(self.ecosystem, name)

    def stamp(self, record: Kept) -> str:
        return moment(self._now, record.updated or record.created)

    def _keep_in_order(self, kind: Kind[R], after: R, before: R | None = None) -> None:
        self.keep(kind, after)
        if before is not None and before.status != after.status:
            self.given_status.add(after.id)
            self.touched[after.id] = self.reordered[after.id] = None
        if before is not None and named(after) != named(before):
            self.touched[after.id] = None
        if added_work(after, before) or getattr(after, "plan", None) != getattr(before, "plan", None):
            self.reordered[after.id] = None

    def _records(self, kind: Kind[R]) -> dict[str, Kept]:
        """Of that section, to be changed."""
        if kind.section not in self._changed:
            self._changed[kind.section] = {record.id: record for record in kind.all(self._latest)}
        return self._changed[kind.section]

    def _next_id(self, kind: Kind[R]) -> str:
        if kind.section not in self._numbering:
            own = [record.id for record in kind.all(self.before)]
            taken = self.names.of(kind) | mentioned(self.before)
            self._numbering[kind.section] = Numbering(own, taken, kind.first_id)
        return self._numbering[kind.section].next(self.names.of(kind))

    def _last_written(self, kind: Kind[R]) -> object:
        return next((record.created for record in reversed(kind.all(self.before)) if record.created), None)


def differing(before: Record, after: Record, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are no longer what they were, with the values that were asked for."""
    return {name: changes[name] for name in changes if getattr(after, name) != getattr(before, name)}
