"""One deed on the file: what it writes, and the records as they will then be.

Each step goes to the edit and to the records alike, so that the next step, and the question of what became ready, see
the file as it will be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from coordination.desk import judging
from coordination.desk.ids import next_id
from coordination.desk.kinds import DEPENDENCY, ISSUE, TODO, Kept, Kind, R, with_section
from coordination.desk.references import check_references, mentioned, work_names
from coordination.desk.states import check_move
from coordination.desk.ties import Ties, became_ready
from coordination.ecosystem.editing import Edit, Place
from coordination.ecosystem.moments import moment
from coordination.errors import Conflict, UsageError
from coordination.models import IssueStatus, Record, TodoStatus
from coordination.ring import cycle_through

WRITTEN = ("status", "priority", "type")
"""Fields that a careful person writes into a new record even where they have their usual value."""
ORDERING = frozenset({"blocked_by", "blocking", "dependencies", "plan"})


class Sheet:
    """What a deed works on. Nothing is in the file before the edit is done."""

    def __init__(self, edit: Edit, now: datetime) -> None:
        self._edit = edit
        self._now = now
        self.before = edit.document.ecosystem
        self.ecosystem = self.before
        self._touched: dict[str, None] = {}
        self._given_status: set[str] = set()

    def create(self, kind: Kind[R], fields: Mapping[str, Any]) -> R:
        """Raises UsageError, NotFound, and Conflict for an id that is in use."""
        own = [record.id for record in kind.all(self.ecosystem)]
        taken = own if kind is DEPENDENCY else work_names(self.ecosystem)
        given = new_record(fields, next_id(own, [*taken, *mentioned(self.ecosystem)], kind.first_id))
        given.setdefault("created", moment(self._now, self._last_written(kind)))
        record = judging.judged(kind.noun, kind.model, given)
        check_free(record.id, taken)
        check_references(self.ecosystem, record)
        self.add((kind.section,), record, given)
        self.keep(kind, (*kind.all(self.ecosystem), record), record.id)
        self._check_cycle(record.id)
        return record

    def update(self, kind: Kind[R], before: R, changes: Mapping[str, Any]) -> tuple[R, tuple[str, ...]]:
        """The record and the names of the fields that were asked for and differ; with none nothing is written."""
        after = judging.changed(kind.noun, before, changes)
        fields = differing(before, after, changes)
        if not fields:
            return before, ()
        check_move(kind.noun, before.id, before.status, after.status)
        check_references(self.ecosystem, after, before)
        fields.setdefault("updated", self.stamp(before))
        after = judging.changed(kind.noun, before, fields)
        self.set((kind.section, before.id), fields)
        self.keep(kind, (after if r is before else r for r in kind.all(self.ecosystem)), before.id)
        if ORDERING & fields.keys():
            self._check_cycle(before.id)
        if "status" in changes:
            self._given_status.add(before.id)
        return after, tuple(field for field in fields if field in changes)

    def remove(self, kind: Kind[R], record: R) -> None:
        self._edit.remove((kind.section, record.id))
        self.keep(kind, (r for r in kind.all(self.ecosystem) if r is not record), record.id)

    def finish(self) -> tuple[str, ...]:
        """What became ready by all this. Whatever of it is `blocked` is `pending` from now on, unless somebody has just
        said otherwise.
        """
        ready = became_ready(Ties(self.before), Ties(self.ecosystem), self._touched)
        for name in ready:
            if name not in self._given_status:
                self._unblock(name)
        return ready

    def set(self, place: Place, fields: Mapping[str, Any]) -> None:
        for field, value in fields.items():
            self._edit.set(place, field, judging.plain(value))

    def add(self, place: Place, record: Record, given: Mapping[str, Any]) -> None:
        """In the order of the model."""
        written = {
            name: given.get(name, getattr(record, name))
            for name in type(record).model_fields
            if name in given or name in WRITTEN
        }
        self._edit.add(place, judging.plain(written))

    def keep(self, kind: Kind[R], records: Iterable[Kept], touched: str) -> None:
        self.ecosystem = with_section(self.ecosystem, kind.section, records)
        self._touched[touched] = None

    def stamp(self, record: Kept) -> str:
        return moment(self._now, record.updated or record.created)

    def _last_written(self, kind: Kind[R]) -> object:
        return next((r.created for r in reversed(kind.all(self.ecosystem)) if r.created), None)

    def _unblock(self, name: str) -> None:
        for todo in TODO.all(self.ecosystem):
            if todo.id == name and todo.status is TodoStatus.BLOCKED:
                self.update(TODO, todo, {"status": TodoStatus.PENDING})
        for issue in ISSUE.all(self.ecosystem):
            if issue.id == name and issue.status is IssueStatus.BLOCKED:
                self.update(ISSUE, issue, {"status": IssueStatus.PENDING})

    def _check_cycle(self, name: str) -> None:
        """Raises UsageError where the record would wait for itself through others."""
        waits = Ties(self.ecosystem).trace(name)
        if cycle := cycle_through(name, waits):
            raise UsageError(f"a cycle: {' → '.join(cycle)}", "take one of these dependencies out first")


def new_record(fields: Mapping[str, Any], id_: str) -> dict[str, Any]:
    """What is given, with an id: nothing given counts as not given."""
    return {"id": id_, **{name: value for name, value in fields.items() if value is not None}}


def check_free(name: str, taken: Iterable[str]) -> None:
    if name in set(taken):
        raise Conflict(f"there is a record with the id {name} already", "leave the id out to get the next free one")


def differing(before: Record, after: Record, changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: changes[name] for name in changes if getattr(after, name) != getattr(before, name)}
