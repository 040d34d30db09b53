"""The events of a change: one for each record that was created, changed or deleted."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from coordination.ecosystem.changes import Changes, key_of
from coordination.ecosystem.layout import TO_REPOS, model_at, names_in
from coordination.ecosystem.parsing import LISTS
from coordination.ecosystem.yaml_text.tree import Location
from coordination.models import (
    OPEN_TODO,
    Dependency,
    Ecosystem,
    Issue,
    IssueStatus,
    Plan,
    PlanStatus,
    Record,
    Repo,
    presentable,
)

LONGEST_VALUE = 2000
"""Characters of a text in an event; the journal has all of it."""
DESCRIBING = (
    "status", "priority", "severity", "assignee", "labels", "plan", "description",
    "estimated_hours", "actual_hours", "created",
)  # fmt: skip
"""Fields of the record that an event has besides those that changed."""
ENDED_ISSUE = frozenset({IssueStatus.RESOLVED, IssueStatus.CLOSED})


def events_of(before: Ecosystem, after: Ecosystem, changes: Changes) -> list[dict[str, Any]]:
    """Return the events of the changes, in the order: changed, created, deleted."""
    changed: dict[Location, dict[str, None]] = {}
    for location, fields in changes.fields.items():
        place = _record_place(location)
        names = fields if len(place) == len(location) else [location[len(place)]]
        changed.setdefault(place, {}).update(dict.fromkeys(map(str, names)))
    after_by_list: dict[Location, dict[str, Record]] = {}
    events = []
    for place, fields in changed.items():
        old = _at(before, place)
        new = None if changes.removed else _at(after, place)
        if changes.removed:  # positions have changed
            if place[:-1] not in after_by_list:
                after_by_list[place[:-1]] = _by_key(after, _owner(before, after, place))
            new = after_by_list[place[:-1]].get(_key(old))
        if new is not None:
            events.append(record_event(_verb(old, new), new, fields, old, _owner_id(before, place)))
    for section, added in changes.added.items():
        records = _by_key(after, _owner(before, after, (*section, 0)))
        owner = _owner_id(before, section)
        events += [record_event("created", records[name], owner=owner) for name in added if name in records]
    for place in changes.removed:
        old = _at(before, place)
        events.append(record_event("deleted", old, owner=_owner_id(before, place)))
    return events


def differences(before: Ecosystem, after: Ecosystem) -> list[dict[str, Any]]:
    """Return the events of a change that coord did not make: changed, created, deleted records by section."""
    events = []
    for section in LISTS:
        old = {_key(record): record for record in _at(before, section)}
        new = {_key(record): record for record in _at(after, section)}
        for key, record in new.items():
            if key not in old:
                events.append(record_event("created", record))
            elif record != old[key]:
                fields = dict.fromkeys(
                    f for f in type(record).model_fields if getattr(record, f) != getattr(old[key], f)
                )
                events.append(record_event(_verb(old[key], record), record, fields, old[key]))
        events += [record_event("deleted", old[key]) for key in old if key not in new]
    return events


def _record_place(location: Location) -> Location:
    """Return the location of the record that has an id: without the fields inside of it."""
    last = max(i for i, step in enumerate(location) if isinstance(step, int))
    place = location[: last + 1]
    return place if "id" in model_at(place).model_fields or len(place) <= 2 else _record_place(place[:-1])


def _at(ecosystem: Ecosystem, location: Location) -> Any:
    value: Any = ecosystem
    for step in location:
        value = value[step] if isinstance(step, int) else getattr(value, step)
    return value


def _key(record: Record) -> str:
    return str(getattr(record, key_of(type(record))))


def _owner(before: Ecosystem, after: Ecosystem, place: Location) -> Location:
    """Return the location in `after` of the list that the record is in. Records before its owner may have
    been removed.
    """
    if len(place) <= 3:
        return place[:-1]
    owner = _key(_at(before, place[:3]))
    position = next((i for i, plan in enumerate(_at(after, place[:2])) if _key(plan) == owner), None)
    return () if position is None else (*place[:2], position, *place[3:-1])


def _owner_id(before: Ecosystem, place: Location) -> str:
    return _key(_at(before, place[:3])) if len(place) > 3 else ""


def _by_key(ecosystem: Ecosystem, place: Location) -> dict[str, Record]:
    return {_key(record): record for record in _at(ecosystem, place)} if place else {}


def _verb(old: Any, new: Any) -> str:
    before, after = getattr(old, "status", None), getattr(new, "status", None)
    if before == after:
        return "updated"
    if isinstance(new, Dependency):
        return "status_changed"
    ended, was_ended = _has_ended(new), _has_ended(old)
    if ended and (not was_ended or after is IssueStatus.CLOSED):
        return str(after)
    return "reopened" if was_ended and not ended else "updated"


def _has_ended(record: Any) -> bool:
    if isinstance(record, Issue):
        return record.status in ENDED_ISSUE
    if isinstance(record, Plan):
        return record.status in (PlanStatus.COMPLETED, PlanStatus.CANCELLED)
    return hasattr(record, "status") and record.status not in OPEN_TODO


def record_event(
    verb: str, record: Any, fields: Collection[str] = (), old: Any = None, owner: str = ""
) -> dict[str, Any]:
    """Return the event of a record. `fields`: those that may have changed since the record was `old`.
    `owner`: the plan of a milestone.
    """
    shown, before = presentable(record), presentable(old) if old is not None else None
    values = shown.model_dump(mode="json", include={*fields, *DESCRIBING})
    earlier = before.model_dump(mode="json", include=set(fields)) if before is not None else {}
    noun = type(record).__name__.lower()
    key = _key(record)
    return {
        "kind": f"{noun}.{verb}",
        "subject": f"{owner}/{key}" if owner else key,
        "title": _clipped(getattr(record, "title", getattr(record, "task", getattr(record, "name", "")))),
        "repos": list(_repos_of(record)),
        "changes": {
            field: [_clipped(earlier.get(field)), _clipped(values.get(field))]
            for field in (fields if verb != "deleted" else ())
            if field != "updated" and earlier.get(field) != values.get(field)
        },
        "record": {
            field: _clipped(values[field])
            for field in DESCRIBING
            if values.get(field) not in (None, "", [], {})
        },
    }


def _repos_of(record: Record) -> Iterator[str]:
    if isinstance(record, Repo):
        yield record.name
    seen = dict.fromkeys(name for field in TO_REPOS.get(type(record), ()) for name in names_in(record, field))
    yield from seen


def _clipped(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONGEST_VALUE:
        return f"{value[:LONGEST_VALUE]}… ({len(value)} characters)"
    if isinstance(value, list | dict):
        written = str(value)
        return value if len(written) <= LONGEST_VALUE else _clipped(written)
    return value
