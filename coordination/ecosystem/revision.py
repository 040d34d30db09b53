"""A file's text with changes in it, and the values that it must then have: the general way, for every change.

`Outcome`, what a run did as far as the file records it, stands here so that readers of runs need not import what edits files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import date
from typing import Any

from coordination.ecosystem.changes import Changes
from coordination.ecosystem.edit.amendments import set_field
from coordination.ecosystem.edit.records import add_item, remove_item
from coordination.ecosystem.layout import model_at
from coordination.ecosystem.parsing import Draft, Snapshot, parse
from coordination.ecosystem.yaml_text.places import Location
from coordination.ecosystem.yaml_text.splices import TextEdit, apply, item
from coordination.ecosystem.yaml_text.tree import Tree, read_tree
from coordination.ecosystem.yaml_text.values import Plain, plain_value
from coordination.errors import EditConflict, InvalidFile


@dataclass(frozen=True, kw_only=True)
class Outcome:
    plan: str
    succeeded: Mapping[str, float | None]
    """Todo → hours that it took; None: it was given an earlier result, and took none."""
    undone: Mapping[str, float | None]
    """The same, of what had succeeded before it was undone, or in a run that this one took up, and no longer stands."""
    filed: frozenset[str] = frozenset()
    """Those of `undone` that the file calls completed because the run, or one that it took up, wrote that there."""
    reopened: frozenset[str] = frozenset()
    """Those that were written back as pending already: what calls them completed now is a person."""
    reached: frozenset[str] = frozenset()
    """Milestones of the plan that were approved."""
    lost: frozenset[str] = frozenset()
    """Those that had been, before what they stand for was undone."""


_BY_HAND = "nothing was written; make the change by hand"


def revise(draft: Draft, changes: Changes) -> Snapshot:
    """The file with the changes in it; raises EditConflict where they cannot be made without changing more."""
    path = draft.document.path
    try:
        result = parse(amended(draft.tree, changes, str(path)), path)
    except InvalidFile as error:
        raise EditConflict(f"{path} cannot be edited safely: {error.message}", _BY_HAND) from error
    if not same(result.data, expected(draft.data, changes)):
        raise EditConflict(f"{path} cannot be edited safely: more than the meant values would change", _BY_HAND)
    return result.snapshot()


def amended(tree: Tree, changes: Changes, file: str) -> bytes:
    """The bytes with the changes in them, which nobody has read yet; raises EditConflict, InvalidFile."""
    for step in _steps(changes):
        splices = [splice for change in step for splice in change(tree)]
        tree = read_tree(tree.encode(apply(tree.text, splices)), file)
    return tree.encode(tree.text)


Step = Callable[[Tree], list[TextEdit]]


def _steps(changes: Changes) -> Iterator[list[Step]]:
    """What can be done to one text at a time: a field of each record, a record added, a record taken out.

    Each is made to what the ones before left, so that two fields that are new at one place find their order. What is
    taken out comes last: until then all locations are those before the edit.
    """
    left = {location: _in_order(location, fields) for location, fields in changes.fields.items()}
    while left:
        yield [_setting(location, *fields.pop(0)) for location, fields in left.items()]
        left = {location: fields for location, fields in left.items() if fields}
    for location, records in changes.added.items():
        for record in records.values():
            yield [_adding(location, record)]
    for location in sorted(changes.removed, reverse=True):
        yield [_removing(location)]


def _in_order(location: Location, fields: dict[str, Plain]) -> list[tuple[str, Plain]]:
    order = list(model_at(location).model_fields)
    return sorted(fields.items(), key=lambda field: order.index(field[0]))


def _setting(location: Location, field: str, value: Plain) -> Step:
    order = list(model_at(location).model_fields)
    return lambda tree: set_field(tree.text, item(tree.root, *location), field, value, order)


def _removing(location: Location) -> Step:
    owner, key, index = location[:-2], str(location[-2]), int(location[-1])
    return lambda tree: remove_item(tree.text, item(tree.root, *owner), key, index)


def _adding(location: Location, record: dict[str, Plain]) -> Step:
    order = list(model_at(location).model_fields)

    def add(tree: Tree) -> list[TextEdit]:
        assert tree.root is not None
        return add_item(tree.text, tree.root, location, record, order)

    return add


def expected(data: dict[str, Any], changes: Changes) -> dict[str, Any]:
    """The values with the changes in them; `data` is altered."""
    for location, fields in changes.fields.items():
        record = _at(data, location)
        for field, value in fields.items():
            if value is None:
                record.pop(field, None)
            else:
                record[field] = deepcopy(value)
    for location, records in changes.added.items():
        _list_at(data, location).extend(deepcopy(list(records.values())))
    for location in sorted(changes.removed, reverse=True):
        del _at(data, location[:-1])[location[-1]]
    return data


def _at(data: Any, location: Location) -> Any:
    for step in location:
        data = data[step]
    return data


def _list_at(data: Any, location: Location) -> list[Any]:
    """The list there; sections that do not exist, or are empty, are made."""
    for step in location[:-1]:
        if isinstance(step, str) and not data.get(step):
            data[step] = {}
        data = data[step]
    if not data.get(location[-1]):
        data[location[-1]] = []
    found: list[Any] = data[location[-1]]
    return found


def same(found: Any, wanted: Any) -> bool:
    """Whether the file says what was meant. A date may stand there as text or as itself; .nan differs from itself."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return wanted.keys() == found.keys() and all(same(found[key], value) for key, value in wanted.items())
    if isinstance(wanted, list | tuple) and isinstance(found, list):
        return len(wanted) == len(found) and all(map(same, found, wanted))
    if isinstance(found, date) and isinstance(wanted, str):
        return bool(found == plain_value(wanted))
    if isinstance(found, int | float) and isinstance(wanted, int | float):
        return isinstance(found, bool) == isinstance(wanted, bool) and (found == wanted or found != found != wanted)
    return bool(found == wanted)
