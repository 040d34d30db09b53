"""A file's text with changes in it, and the values that it must then have."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

from coordination.ecosystem.changes import RECORDS, Changes, Plain
from coordination.ecosystem.document import Document, Draft, parse
from coordination.ecosystem.places import Location
from coordination.ecosystem.splices import Splice, apply, entry, insert, item, like_json, replace
from coordination.ecosystem.tree import Tree, read_tree
from coordination.ecosystem.values import plain_value
from coordination.errors import EditConflict, InvalidFile

_BY_HAND = "nothing was written; make the change by hand"


def revise(draft: Draft, changes: Changes) -> Document:
    """The document with the changes in it; raises EditConflict where they cannot be made without changing more."""
    path = draft.document.path
    try:
        result = parse(_changed(draft.tree, changes, str(path)), path)
    except InvalidFile as error:
        raise EditConflict(f"{path} cannot be edited safely: {error.message}", _BY_HAND) from error
    if not _same(result.data, _expected(draft.data, changes)):
        raise EditConflict(f"{path} cannot be edited safely: more than the meant values would change", _BY_HAND)
    return result.document


def _changed(tree: Tree, changes: Changes, file: str) -> bytes:
    for step in _rounds(changes):
        splices = [splice for location, field, value in step for splice in _set(tree, location, field, value)]
        tree = read_tree(tree.encode(apply(tree.text, splices)), file)
    return tree.encode(tree.text)


def _rounds(changes: Changes) -> Iterator[list[tuple[Location, str, Plain]]]:
    """One field of each record at a time: what two changes do to one record is seen by the second."""
    left = {location: list(fields.items()) for location, fields in changes.fields.items()}
    while left:
        yield [(location, *fields.pop(0)) for location, fields in left.items()]
        left = {location: fields for location, fields in left.items() if fields}


def _set(tree: Tree, location: Location, field: str, value: Plain) -> Iterator[Splice]:
    node = item(tree.root, *location)
    old = entry(node, field)
    if not isinstance(value, str | int | float):
        raise EditConflict(f"{field}: only single values are changed yet", _BY_HAND)
    written = str(value)
    if isinstance(value, float):
        written = f"{value:.6f}".rstrip("0").rstrip(".")  # never an exponent, which YAML 1.1 reads as text
    if old is not None:
        yield replace(tree.text, old, written)
    else:
        quoted = isinstance(value, str) and like_json(node)
        order = list(
            RECORDS[tuple(step for step in location if isinstance(step, str) and step != "coordination")].model_fields
        )
        beside = reversed(order[: order.index(field)])
        yield insert(tree.text, node, field, f'"{written}"' if quoted else written, beside)


def _expected(data: dict[str, Any], changes: Changes) -> dict[str, Any]:
    for location, fields in changes.fields.items():
        record: Any = data
        for step in location:
            record = record[step]
        for field, value in fields.items():
            record.pop(field, None) if value is None else record.update({field: value})
    return data


def _same(found: Any, wanted: Any) -> bool:
    """Whether the file says what was meant. A date may stand there as text or as itself; .nan differs from itself."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return wanted.keys() == found.keys() and all(_same(found[key], value) for key, value in wanted.items())
    if isinstance(wanted, list | tuple) and isinstance(found, list):
        return len(wanted) == len(found) and all(map(_same, found, wanted))
    if isinstance(found, date) and isinstance(wanted, str):
        return bool(found == plain_value(wanted))
    return type(found) is type(wanted) and (found == wanted or (found != found and wanted != wanted))
