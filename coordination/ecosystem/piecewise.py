"""An edit of a few records of a large file, at the price of these records: 0.1 s where the whole way takes 3.

The whole way (`revision.py`) parses the file, amends it, parses it again and compares all values. Here only *windows*
are composed: the lines of the changed records, below the names that their list stands under (a *fragment*). The
fragment is amended by the same functions, composed again, and its values are compared with those that were meant.

Why that proves the whole. libyaml reads a text from left to right; what it makes of the rest depends on the rest and on
its state, which at the beginning of a line of a block list is: the blocks that are open with their columns, and the
anchors and directives seen so far. No quote or bracket is open there, and no name waits for its colon.

* Before the first window the bytes are the same, so are the events and the state.
* The fragment's names bring libyaml to the state that it has before the window: the same blocks are open at the same
  columns. So the window's lines mean in the file what they mean in the fragment. Anchors and directives make no
  difference: a file with an alias has no outline, and a tag that a directive declared does not compose alone.
* What follows the window (a dash at the list's column, a name further left, or the end) closes all that the window has
  opened, as the fragment's end does, for quotes and brackets are closed where a fragment composes alone. One thing
  differs: at the very end a block of text may lack its line end. So a window ends with a line end, or is the file's end.
* After the window the same blocks are open as before the edit, and the bytes are the same, so are the events.

What a record cannot say alone is judged on all records: ids. Then libyaml reads the new file once without making
objects (0.1 s), which must succeed and give as many events as before, less the old windows', plus the new ones': a net
under this argument. Where one of its conditions does not hold, or anything is refused, the whole way decides and finds
the words; both lead to the same bytes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import yaml
from pydantic import ValidationError

from coordination.ecosystem.changes import Changes, key_of
from coordination.ecosystem.checks import WORK, contradictions
from coordination.ecosystem.layout import model_at
from coordination.ecosystem.outline import LISTS, Listing, Outline, count_events, outline_of
from coordination.ecosystem.parsing import Document, Snapshot
from coordination.ecosystem.revision import amended, expected, same
from coordination.ecosystem.yaml_text.lines import BREAKS
from coordination.ecosystem.yaml_text.places import Location, inside
from coordination.ecosystem.yaml_text.splices import TextEdit, apply
from coordination.ecosystem.yaml_text.tree import BOM, Tree, read_tree
from coordination.ecosystem.yaml_text.values import AliasBomb, read_values
from coordination.errors import EditConflict, InvalidFile
from coordination.models import Ecosystem, Record


class NeedsFullParse(Exception):
    """Only the whole file can tell."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """Records `first` to `last` of a list, and what is to be done to them, located as in the fragment."""

    list: Location
    first: int
    last: int
    changes: Changes


@dataclass(frozen=True, kw_only=True)
class PatchedWindow:
    """A window's new text, records and lengths."""

    window: Window
    splice: TextEdit
    records: tuple[Record, ...]
    lengths: tuple[int, ...]
    events: int
    """How many more than before."""


def revise(before: Snapshot, changes: Changes) -> Snapshot | None:
    """The file with the changes in it, proved; None where only the whole way can do it, or say why not."""
    try:
        return _revised(before, changes)
    except (NeedsFullParse, InvalidFile, EditConflict, AliasBomb, ValidationError, yaml.YAMLError):
        return None


def _revised(before: Snapshot, changes: Changes) -> Snapshot:
    document, outline = before.document, before.outline
    if outline is None:
        raise NeedsFullParse
    text = document.text.decode()
    bom = text[: len(BOM)] if text.startswith(BOM) else ""
    text = text.removeprefix(BOM)
    passages = [_passage(text, outline, window) for window in windows(outline, changes)]
    passages.sort(key=lambda passage: passage.splice.start)
    ecosystem = _with_records(document.ecosystem, passages)
    new = apply(text, [passage.splice for passage in passages])
    outline = _moved(outline, passages)
    if count_events(new) != outline.events:
        raise NeedsFullParse
    after = Document(path=document.path, text=(bom + new).encode(), ecosystem=ecosystem, known_warnings=None)
    return Snapshot(document=after, outline=outline)


def windows(outline: Outline, changes: Changes) -> list[Window]:
    """What has to be looked at together; the neighbours show how a new record is written, and what lies between two."""
    wanted: dict[Location, list[tuple[int, int]]] = {}
    for owner, span in _touched(outline, changes):
        wanted.setdefault(owner, []).append(span)
    found = {
        owner: [Window(list=owner, first=first, last=last, changes=Changes()) for first, last in _merged(spans)]
        for owner, spans in wanted.items()
    }
    _distribute(outline, changes, found)
    return [window for of_list in found.values() for window in of_list]


def _distribute(outline: Outline, changes: Changes, found: dict[Location, list[Window]]) -> None:
    def into(location: Location) -> tuple[Changes, Location]:
        owner, index = _split(outline, location)
        if index < 0:
            return found[owner][-1].changes, owner
        window = found[owner][bisect_right(found[owner], index, key=lambda window: window.first) - 1]
        return window.changes, (*owner, index - window.first, *location[len(owner) + 1 :])

    for location, fields in changes.fields.items():
        there, place = into(location)
        there.fields[place] = fields
    for location in changes.removed:
        there, place = into(location)
        there.removed.append(place)
    for location, records in changes.added.items():
        there, place = into(location)
        there.added[place] = records


def _touched(outline: Outline, changes: Changes) -> Iterator[tuple[Location, tuple[int, int]]]:
    for location in changes.fields:
        owner, index = _split(outline, location)
        yield owner, (index, index)
    for location in (*changes.removed, *changes.added):
        owner, index = _split(outline, location)
        end = len(outline.lists[owner].lengths) - 1
        if len(location) - len(owner) > 1:  # of a plan's milestones
            yield owner, (index, index)
        elif index < 0:
            yield owner, (max(end - 1, 0), end)
        else:
            yield owner, (max(index - 1, 0), min(index + 1, end))


def _split(outline: Outline, location: Location) -> tuple[Location, int]:
    """The list and the position in it, -1 for the list itself."""
    owner = next((known for known in LISTS if location[: len(known)] == known), None)
    if owner not in outline.lists or owner is None:
        raise NeedsFullParse
    return owner, int(location[len(owner)]) if len(location) > len(owner) else -1


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def _passage(text: str, outline: Outline, window: Window) -> PatchedWindow:
    listing = outline.lists[window.list]
    spans = listing.spans()
    start, end = spans[window.first], spans[window.last + 1]
    head = _head(window.list, listing, outline.newline)
    old = read_tree((head + text[start:end]).encode(), "")
    new = read_tree(amended(old, window.changes, ""), "")
    before, data = _values(old), _values(new)
    _check_style_is_known(window, before)
    if not same(data, expected(before, window.changes)) or any(contradictions(data)):
        raise NeedsFullParse
    lines = new.text.removeprefix(head)
    if len(lines) + len(head) != len(new.text) or (end < len(text) and lines[-1:] not in BREAKS):
        raise NeedsFullParse
    inner = outline_of(new)
    if inner is None or window.list not in inner.lists:
        raise NeedsFullParse
    return PatchedWindow(
        window=window,
        splice=TextEdit(start=start, end=end, text=lines),
        records=_records(window.list, data),
        lengths=inner.lists[window.list].lengths,
        events=inner.events - count_events(old.text),
    )


def _check_style_is_known(window: Window, data: dict[str, Any]) -> None:
    """The first record of a list is written as other lists of the file are; a list's style goes with its last record."""
    if any(not reduce(inside, place, data) for place in window.changes.added):
        raise NeedsFullParse
    gone = Counter(place[:-1] for place in window.changes.removed)
    if any(len(reduce(inside, place, data)) <= count for place, count in gone.items()):
        raise NeedsFullParse


def _head(owner: Location, listing: Listing, newline: str) -> str:
    """The names above the list, at their columns."""
    return "".join(f"{' ' * column}{name}:{newline}" for name, column in zip(owner, listing.columns, strict=False))


def _values(tree: Tree) -> dict[str, Any]:
    data, findings = read_values(tree)
    if findings or not isinstance(data, dict):
        raise NeedsFullParse
    return data


def _records(owner: Location, data: Any) -> tuple[Record, ...]:
    for step in owner:
        data = data[step]
    model = model_at(owner)
    return tuple(model.model_validate(item) for item in data)


def _with_records(ecosystem: Ecosystem, passages: Sequence[PatchedWindow]) -> Ecosystem:
    lists: dict[Location, list[Record]] = {}
    for passage in reversed(passages):  # from the last one, so that positions before it stay
        owner = passage.window.list
        if owner not in lists:
            lists[owner] = list(_list_of(ecosystem, owner))
        lists[owner][passage.window.first : passage.window.last + 1] = passage.records
    for owner, records in lists.items():
        ecosystem = _with_list(ecosystem, owner, tuple(records))
    _check_ids(ecosystem, lists)
    return ecosystem


def _list_of(ecosystem: Ecosystem, owner: Location) -> tuple[Record, ...]:
    value: Any = ecosystem
    for step in owner:
        value = getattr(value, str(step))
    records: tuple[Record, ...] = value
    return records


def _with_list(ecosystem: Ecosystem, owner: Location, records: tuple[Record, ...]) -> Ecosystem:
    if len(owner) == 1:
        return ecosystem.model_copy(update={str(owner[0]): records})
    return ecosystem.with_coordination(**{str(owner[1]): records})


def _check_ids(ecosystem: Ecosystem, changed: Iterable[Location]) -> None:
    """Each list's ids differ, and those of all work do."""
    owners = {*changed, *(("coordination", section) for section in WORK)}
    names = {owner: [getattr(r, key_of(type(r))) for r in _list_of(ecosystem, owner)] for owner in owners}
    work = [name for section in WORK for name in names["coordination", section]]
    if any(len(set(group)) < len(group) for group in (work, *names.values())):
        raise NeedsFullParse


def _moved(outline: Outline, passages: Sequence[PatchedWindow]) -> Outline:
    lists = dict(outline.lists)
    for passage in reversed(passages):
        owner, window = passage.window.list, passage.window
        lengths = list(lists[owner].lengths)
        lengths[window.first : window.last + 1] = passage.lengths
        lists[owner] = replace(lists[owner], lengths=tuple(lengths))
        longer = len(passage.splice.text) - (passage.splice.end - passage.splice.start)
        for other, listing in lists.items():
            if listing.start > passage.splice.start:
                lists[other] = replace(listing, start=listing.start + longer)
    return replace(outline, lists=lists, events=outline.events + sum(passage.events for passage in passages))
