"""Applying changes to the whole file, and computing the values that it must then have.

`RunOutcome`, the results of a run as far as the file records them, is here so that code that reads runs need
not import the editing code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import date
from typing import Any

from coordination.ecosystem.changes import Changes
from coordination.ecosystem.edit.amendments import set_field
from coordination.ecosystem.edit.records import add_items, remove_item
from coordination.ecosystem.layout import model_at
from coordination.ecosystem.parsing import Draft, Snapshot, parse
from coordination.ecosystem.yaml_text.places import Location
from coordination.ecosystem.yaml_text.text_edits import TextEdit, apply, item
from coordination.ecosystem.yaml_text.tree import Tree, read_tree
from coordination.ecosystem.yaml_text.values import Plain, plain_value
from coordination.errors import EditConflict, InvalidFile


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
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
    """Todos that were written back as pending already; if they are completed now, a person did that."""
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
    left = {location: _in_order(location, fields) for location, fields in changes.fields.items()}
    while left:
        yield [_set_step(location, *fields.pop(0)) for location, fields in left.items()]
        left = {location: fields for location, fields in left.items() if fields}
    for location, records in changes.added.items():
        given = list(records.values())
        for group in filter(None, (given[:1], given[1:2], given[2:])):
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
        for field, value in fields.items():
            if value is None:
                record.pop(field, None)
            else:
                record[field] = deepcopy(value)
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
    found: list[Any] = data[location[-1]]
    return found


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
