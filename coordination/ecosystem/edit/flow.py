"""Inserting and removing elements in `[…]` and `{…}`, with commas, spaces and line ends as around them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from yaml.nodes import CollectionNode, MappingNode, SequenceNode

from coordination.ecosystem.yaml_text.lines import (
    BREAK,
    TextEdit,
    alone_before,
    gap_end,
    item_ends,
    line_end_text,
    line_start,
    line_stop,
    next_line,
    rest_is_blank,
    value_end,
)
from coordination.errors import EditConflict

_OPENING = re.compile(r"(?:[&!][^\s\[{]*\s+)*[\[{]")
"""Opening bracket, with the anchors and tags that may precede it."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Content between two brackets: the elements, and the position of the comma after each."""

    text: str
    open: int
    close: int
    spans: tuple[tuple[int, int], ...]
    commas: tuple[int | None, ...]

    def gap(self, start: int, end: int) -> str:
        return self.text[start:end]


def parts(text: str, node: CollectionNode) -> Parts:
    """Return the parts of a flow collection. Raises EditConflict for a mapping without brackets of its own:
    `[a: b]`.
    """
    found = _OPENING.match(text, int(node.start_mark.index))
    if found is None:
        line = node.start_mark.line + 1
        raise EditConflict(
            f"line {line}: a mapping without braces cannot be edited", "put it in braces and try again"
        )
    spans = _spans(text, node)
    ends = [gap_end(text, end) for _, end in spans]
    commas = tuple(at if text[at : at + 1] == "," else None for at in ends)
    return Parts(text=text, open=found.end(), close=int(node.end_mark.index) - 1, spans=spans, commas=commas)


def _spans(text: str, node: CollectionNode) -> tuple[tuple[int, int], ...]:
    if isinstance(node, MappingNode):
        return tuple((int(key.start_mark.index), value_end(text, key, value)) for key, value in node.value)
    assert isinstance(node, SequenceNode)
    ends = item_ends(text, node)
    return tuple((int(item.start_mark.index), end) for item, end in zip(node.value, ends, strict=True))


def insert(here: Parts, at: int, sources: Sequence[str]) -> list[TextEdit]:
    """Insert elements before the element `at`, or after the last one."""
    if not here.spans:
        return _fill(here, ", ".join(sources))
    if at == 0:
        first = here.spans[0][0]
        between = _row_break(here, 0) or _separator(here)
        return [TextEdit(start=first, end=first, text="".join(source + between for source in sources))]
    return _insert_after(here, at - 1, sources)


def _fill(here: Parts, source: str) -> list[TextEdit]:
    inside = here.gap(here.open, here.close)
    return [TextEdit(start=here.open, end=here.open if inside.strip() else here.close, text=source)]


def _insert_after(here: Parts, at: int, sources: Sequence[str]) -> list[TextEdit]:
    text, end, comma = here.text, here.spans[at][1], here.commas[at]
    row = _row_break(here, at)
    if not row:
        return [TextEdit(start=end, end=end, text="".join(_separator(here) + source for source in sources))]
    stop = end if comma is None else comma + 1
    if not rest_is_blank(text, stop):  # the bracket or the next element follows on this line
        between = row if comma is None else _separator(here)
        return [TextEdit(start=end, end=end, text="".join(between + source for source in sources))]
    line = line_stop(text, stop)
    if comma is None:
        rows = row.removeprefix(",") + row.join(sources)
        return [TextEdit(start=end, end=end, text=","), TextEdit(start=line, end=line, text=rows)]
    return [
        TextEdit(
            start=line, end=line, text="".join(f"{row.removeprefix(',')}{source}," for source in sources)
        )
    ]


def _row_break(here: Parts, at: int) -> str:
    """Return the text between rows if each element starts a line as this one does, else ""."""
    start = here.spans[at][0]
    if not alone_before(here.text, start) or not line_start(here.text, start):
        return ""
    return f",{line_end_text(here.text)}{here.gap(line_start(here.text, start), start)}"


def _separator(here: Parts) -> str:
    """Return the text between two elements of one line."""
    for (_, end), (start, _) in zip(here.spans, here.spans[1:], strict=False):
        if not (gap := here.gap(end, start)).strip(" ,"):
            return gap
    return ", "


def remove(here: Parts, first: int, last: int) -> list[TextEdit]:
    """Remove the elements `first` to `last` with their commas; a whole row goes with its comment."""
    text, start, end = here.text, here.spans[first][0], here.spans[last][1]
    comma, is_last = here.commas[last], last == len(here.spans) - 1
    before = here.commas[first - 1] if first else None
    if first == 0 and is_last and "#" not in here.gap(here.open, start) + here.gap(end, here.close):
        return [TextEdit(start=here.open, end=here.close, text="")]
    stop = end if comma is None else comma + 1
    if alone_before(text, start) and rest_is_blank(text, stop):
        rows = TextEdit(start=line_start(text, start), end=next_line(text, stop), text="")
        return [_deletion(before, before + 1), rows] if comma is None and before is not None else [rows]
    if not is_last:
        return [_remove_before(here, first, last)]
    if before is None:
        return [_deletion(start, stop)]
    return _remove_last(here, start, stop, before, keep_comma=comma is not None)


def _remove_before(here: Parts, first: int, last: int) -> TextEdit:
    """Remove elements that others follow, on the same line or the next one."""
    start, following = here.spans[first][0], here.spans[last + 1][0]
    stop = (here.commas[last] or 0) + 1
    gap = here.gap(stop, following)
    if not gap.strip(" \t") or (first == 0 and not gap.strip()):
        return _deletion(start, following)
    before = here.commas[first - 1] if first else None
    if before is not None and not BREAK.search(here.gap(before, start)):
        return _deletion(before + 1, stop)
    return _deletion(start, stop)


def _remove_last(here: Parts, start: int, stop: int, before: int, *, keep_comma: bool) -> list[TextEdit]:
    if "#" not in here.gap(before, start):
        return [_deletion(before + keep_comma, stop)]
    row = line_start(here.text, start) if alone_before(here.text, start) else start
    return [_deletion(row, stop)] if keep_comma else [_deletion(before, before + 1), _deletion(row, stop)]


def _deletion(start: int, end: int) -> TextEdit:
    return TextEdit(start=start, end=end, text="")
