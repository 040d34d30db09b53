"""Edits of a few records of a large file without parsing the rest: 0.1 s instead of 3 s.

The general way (`changes.py`) parses the file, edits it, parses it again and compares all values. Here only
*windows* are composed: the lines of the changed records, below the names of their list (a *fragment*). The
fragment is edited by the same functions, composed again, and its values are compared with the intended ones.

This is sufficient for the whole file, for the following reason. libyaml reads a text from left to right; how
it reads the rest depends on the rest and on its state. At the beginning of a line of a block list, that state
consists of the open blocks with their columns, and the anchors and directives seen so far. No quote or
bracket is open there, and no name waits for its colon.

* Before the first window the bytes are unchanged, so the events and the state are, too.
* The fragment's names bring libyaml into the state that it has before the window: the same blocks are open at
  the same columns. So the window's lines mean in the file what they mean in the fragment. Anchors and
  directives make no difference: a file with an alias has no outline, and a tag that a directive declares does
  not compose alone.
* The text after the window (a dash at the list's column, a name further left, or the end) closes all blocks
  that the window has opened, as the fragment's end does; quotes and brackets are closed if a fragment
  composes alone. There is one difference: at the very end a block of text may lack its line end. So a window
  ends with a line end, or with the file.
* After the window the same blocks are open as before the edit, and the bytes are unchanged, so the events
  are, too.

Ids are compared over all records, because a record alone cannot show that its id is unique. Finally libyaml
reads the new file once without creating objects (0.1 s); this must succeed and emit as many events as before,
less those of the old windows, plus those of the new ones, as a safety net for this argument. If a condition
does not hold or anything is refused, the general way decides and words the error; both ways produce the same
bytes.
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

from coordination.ecosystem.changes import Changes, apply_changes, expected_values, key_of, values_equal
from coordination.ecosystem.diagnostics import WORK, repeated_ids
from coordination.ecosystem.layout import inside, model_at
from coordination.ecosystem.parsing import (
    LISTS,
    Document,
    Listing,
    Outline,
    Snapshot,
    count_events,
    outline_of,
)
from coordination.ecosystem.yaml_text.lines import BREAKS, TextEdit, apply
from coordination.ecosystem.yaml_text.tree import BOM, AliasBomb, Location, Tree, read_tree, read_values
from coordination.errors import EditConflict, InvalidFile
from coordination.models import Ecosystem, Record


class NeedsFullParse(Exception):
    """The edit can be decided only on the whole file."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """Records `first` to `last` of a list, and the changes to them with locations in the fragment."""

    list: Location
    first: int
    last: int
    changes: Changes


@dataclass(frozen=True, kw_only=True)
class PatchedWindow:
    """New text, records and slice lengths of a window."""

    window: Window
    edit: TextEdit
    records: tuple[Record, ...]
    lengths: tuple[int, ...]
    events: int
    """Number of parse events, less those of the old window."""


def revise(before: Snapshot, changes: Changes) -> Snapshot | None:
    """Return the file with the changes, verified; None if only the general way can apply them, or report why
    not.
    """
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
    patches = [_patch(text, outline, window) for window in windows(outline, changes)]
    patches.sort(key=lambda patch: patch.edit.start)
    ecosystem = _replace_records(document.ecosystem, patches)
    new = apply(text, [patch.edit for patch in patches])
    outline = _shifted(outline, patches)
    if count_events(new) != outline.events:
        raise NeedsFullParse
    after = Document(path=document.path, text=(bom + new).encode(), ecosystem=ecosystem, known_warnings=None)
    return Snapshot(document=after, outline=outline)


def windows(outline: Outline, changes: Changes) -> list[Window]:
    """Return the windows that the changes need; neighbours are included to show a new record's style and the
    gaps between records.
    """
    spans_by_list: dict[Location, list[tuple[int, int]]] = {}
    for owner, span in _touched_spans(outline, changes):
        spans_by_list.setdefault(owner, []).append(span)
    windows_by_list = {
        owner: [
            Window(list=owner, first=first, last=last, changes=Changes()) for first, last in _merged(spans)
        ]
        for owner, spans in spans_by_list.items()
    }
    _distribute(outline, changes, windows_by_list)
    return [window for of_list in windows_by_list.values() for window in of_list]


def _distribute(outline: Outline, changes: Changes, windows_by_list: dict[Location, list[Window]]) -> None:
    """Give each window its changes, with locations in its fragment."""

    def into(location: Location) -> tuple[Changes, Location]:
        owner, index = _split(outline, location)
        if index < 0:
            return windows_by_list[owner][-1].changes, owner
        of_list = windows_by_list[owner]
        window = of_list[bisect_right(of_list, index, key=lambda window: window.first) - 1]
        return window.changes, (*owner, index - window.first, *location[len(owner) + 1 :])

    for location, fields in changes.fields.items():
        of_window, place = into(location)
        of_window.fields[place] = fields
    for location in changes.removed:
        of_window, place = into(location)
        of_window.removed.append(place)
    for location, records in changes.added.items():
        of_window, place = into(location)
        of_window.added[place] = records


def _touched_spans(outline: Outline, changes: Changes) -> Iterator[tuple[Location, tuple[int, int]]]:
    for location in changes.fields:
        owner, index = _split(outline, location)
        yield owner, (index, index)
    for location in (*changes.removed, *changes.added):
        owner, index = _split(outline, location)
        end = len(outline.lists[owner].lengths) - 1
        if len(location) - len(owner) > 1:  # a plan's milestones
            yield owner, (index, index)
        elif index < 0:
            yield owner, (max(end - 1, 0), end)
        else:
            yield owner, (max(index - 1, 0), min(index + 1, end))


def _split(outline: Outline, location: Location) -> tuple[Location, int]:
    """Return the list and the position in it, -1 for the list itself."""
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


def _patch(text: str, outline: Outline, window: Window) -> PatchedWindow:
    listing = outline.lists[window.list]
    spans = listing.spans()
    start, end = spans[window.first], spans[window.last + 1]
    head = _head(window.list, listing, outline.newline)
    old = read_tree((head + text[start:end]).encode(), "")
    new = read_tree(apply_changes(old, window.changes, ""), "")
    before, data = _values(old), _values(new)
    _check_style_is_known(window, before)
    if not values_equal(data, expected_values(before, window.changes)) or any(repeated_ids(data)):
        raise NeedsFullParse
    lines = new.text.removeprefix(head)
    if len(lines) + len(head) != len(new.text) or (end < len(text) and lines[-1:] not in BREAKS):
        raise NeedsFullParse
    inner = outline_of(new)
    if inner is None or window.list not in inner.lists:
        raise NeedsFullParse
    return PatchedWindow(
        window=window,
        edit=TextEdit(start=start, end=end, text=lines),
        records=_records(window.list, data),
        lengths=inner.lists[window.list].lengths,
        events=inner.events - count_events(old.text),
    )


def _check_style_is_known(window: Window, data: dict[str, Any]) -> None:
    """Raise NeedsFullParse for the first record of a list, whose style other lists show, and for the removal
    of the last.
    """
    if any(not reduce(inside, place, data) for place in window.changes.added):
        raise NeedsFullParse
    removed = Counter(place[:-1] for place in window.changes.removed)
    if any(len(reduce(inside, place, data)) <= count for place, count in removed.items()):
        raise NeedsFullParse


def _head(owner: Location, listing: Listing, newline: str) -> str:
    """Return the names above the list at their columns, as text."""
    return "".join(
        f"{' ' * column}{name}:{newline}" for name, column in zip(owner, listing.columns, strict=False)
    )


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


def _replace_records(ecosystem: Ecosystem, patches: Sequence[PatchedWindow]) -> Ecosystem:
    lists: dict[Location, list[Record]] = {}
    for patch in reversed(patches):  # from the last one, so that earlier positions stay valid
        owner = patch.window.list
        if owner not in lists:
            lists[owner] = list(_list_of(ecosystem, owner))
        lists[owner][patch.window.first : patch.window.last + 1] = patch.records
    for owner, records in lists.items():
        ecosystem = _replace_list(ecosystem, owner, tuple(records))
    _check_ids(ecosystem, lists)
    return ecosystem


def _list_of(ecosystem: Ecosystem, owner: Location) -> tuple[Record, ...]:
    value: Any = ecosystem
    for step in owner:
        value = getattr(value, str(step))
    records: tuple[Record, ...] = value
    return records


def _replace_list(ecosystem: Ecosystem, owner: Location, records: tuple[Record, ...]) -> Ecosystem:
    if len(owner) == 1:
        return ecosystem.model_copy(update={str(owner[0]): records})
    return ecosystem.with_coordination(**{str(owner[1]): records})


def _check_ids(ecosystem: Ecosystem, changed: Iterable[Location]) -> None:
    """Raise NeedsFullParse if an id is repeated within a list or over all work."""
    owners = {*changed, *(("coordination", section) for section in WORK)}
    names = {owner: [getattr(r, key_of(type(r))) for r in _list_of(ecosystem, owner)] for owner in owners}
    work = [name for section in WORK for name in names["coordination", section]]
    if any(len(set(group)) < len(group) for group in (work, *names.values())):
        raise NeedsFullParse


def _shifted(outline: Outline, patches: Sequence[PatchedWindow]) -> Outline:
    lists = dict(outline.lists)
    for patch in reversed(patches):
        owner, window = patch.window.list, patch.window
        lengths = list(lists[owner].lengths)
        lengths[window.first : window.last + 1] = patch.lengths
        lists[owner] = replace(lists[owner], lengths=tuple(lengths))
        longer = len(patch.edit.text) - (patch.edit.end - patch.edit.start)
        for other, listing in lists.items():
            if listing.start > patch.edit.start:
                lists[other] = replace(listing, start=listing.start + longer)
    return replace(outline, lists=lists, events=outline.events + sum(patch.events for patch in patches))
