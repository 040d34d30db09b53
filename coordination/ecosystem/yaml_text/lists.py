"""Edits of lists in YAML text: items of block lists, and elements in `[…]` and `{…}`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from yaml.nodes import CollectionNode, MappingNode, Node, SequenceNode

from coordination.ecosystem.yaml_text import rendering
from coordination.ecosystem.yaml_text.lines import (
    BREAK,
    Entry,
    TextEdit,
    alone_before,
    below,
    comment_column,
    content_end,
    dash,
    gap_end,
    is_blank,
    is_shared,
    item_ends,
    keeps_blank_lines,
    line_before,
    line_end_text,
    line_start,
    line_stop,
    next_line,
    quote_of,
    rest_is_blank,
    value_end,
)
from coordination.ecosystem.yaml_text.tree import value_of
from coordination.errors import EditConflict

_OPENING = re.compile(r"(?:[&!][^\s\[{]*\s+)*[\[{]")
"""Opening bracket, with the anchors and tags that may precede it."""


@dataclass(frozen=True, kw_only=True)
class Brackets:
    """Content between two brackets: the elements, and the position of the comma after each."""

    text: str
    open: int
    close: int
    spans: tuple[tuple[int, int], ...]
    commas: tuple[int | None, ...]

    def gap(self, start: int, end: int) -> str:
        return self.text[start:end]


def brackets(text: str, node: CollectionNode) -> Brackets:
    """Return the parts of a flow collection. Raises EditConflict for a mapping without brackets of its own:
    `[a: b]`.
    """
    match = _OPENING.match(text, int(node.start_mark.index))
    if match is None:
        line = node.start_mark.line + 1
        raise EditConflict(
            f"line {line}: a mapping without braces cannot be edited", "put it in braces and try again"
        )
    spans = _element_spans(text, node)
    ends = [gap_end(text, end) for _, end in spans]
    commas = tuple(at if text[at : at + 1] == "," else None for at in ends)
    return Brackets(
        text=text, open=match.end(), close=int(node.end_mark.index) - 1, spans=spans, commas=commas
    )


def _element_spans(text: str, node: CollectionNode) -> tuple[tuple[int, int], ...]:
    if isinstance(node, MappingNode):
        return tuple((int(key.start_mark.index), value_end(text, key, value)) for key, value in node.value)
    assert isinstance(node, SequenceNode)
    ends = item_ends(text, node)
    return tuple((int(item.start_mark.index), end) for item, end in zip(node.value, ends, strict=True))


def insert_elements(content: Brackets, at: int, sources: Sequence[str]) -> list[TextEdit]:
    """Insert elements before the element `at`, or after the last one."""
    if not content.spans:
        return _fill(content, ", ".join(sources))
    if at == 0:
        first = content.spans[0][0]
        between = _row_break(content, 0) or _separator(content)
        return [TextEdit(start=first, end=first, text="".join(source + between for source in sources))]
    return _insert_after(content, at - 1, sources)


def _fill(content: Brackets, source: str) -> list[TextEdit]:
    inside = content.gap(content.open, content.close)
    return [TextEdit(start=content.open, end=content.open if inside.strip() else content.close, text=source)]


def _insert_after(content: Brackets, at: int, sources: Sequence[str]) -> list[TextEdit]:
    text, end, comma = content.text, content.spans[at][1], content.commas[at]
    row = _row_break(content, at)
    if not row:
        return [
            TextEdit(start=end, end=end, text="".join(_separator(content) + source for source in sources))
        ]
    stop = end if comma is None else comma + 1
    if not rest_is_blank(text, stop):  # the bracket or the next element follows on this line
        between = row if comma is None else _separator(content)
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


def _row_break(content: Brackets, at: int) -> str:
    """Return the text between rows if each element starts a line as this one does, else ""."""
    start = content.spans[at][0]
    if not alone_before(content.text, start) or not line_start(content.text, start):
        return ""
    return f",{line_end_text(content.text)}{content.gap(line_start(content.text, start), start)}"


def _separator(content: Brackets) -> str:
    """Return the text between two elements of one line."""
    for (_, end), (start, _) in zip(content.spans, content.spans[1:], strict=False):
        if not (gap := content.gap(end, start)).strip(" ,"):
            return gap
    return ", "


def remove_elements(content: Brackets, first: int, last: int) -> list[TextEdit]:
    """Remove the elements `first` to `last` with their commas; a whole row goes with its comment."""
    text, start, end = content.text, content.spans[first][0], content.spans[last][1]
    comma, is_last = content.commas[last], last == len(content.spans) - 1
    before = content.commas[first - 1] if first else None
    if (
        first == 0
        and is_last
        and "#" not in content.gap(content.open, start) + content.gap(end, content.close)
    ):
        return [TextEdit(start=content.open, end=content.close, text="")]
    stop = end if comma is None else comma + 1
    if alone_before(text, start) and rest_is_blank(text, stop):
        rows = TextEdit(start=line_start(text, start), end=next_line(text, stop), text="")
        return [_deletion(before, before + 1), rows] if comma is None and before is not None else [rows]
    if not is_last:
        return [_remove_before(content, first, last)]
    if before is None:
        return [_deletion(start, stop)]
    return _remove_last(content, start, stop, before, keep_comma=comma is not None)


def _remove_before(content: Brackets, first: int, last: int) -> TextEdit:
    """Remove elements that others follow, on the same line or the next one."""
    start, following = content.spans[first][0], content.spans[last + 1][0]
    stop = (content.commas[last] or 0) + 1
    gap = content.gap(stop, following)
    if not gap.strip(" \t") or (first == 0 and not gap.strip()):
        return _deletion(start, following)
    before = content.commas[first - 1] if first else None
    if before is not None and not BREAK.search(content.gap(before, start)):
        return _deletion(before + 1, stop)
    return _deletion(start, stop)


def _remove_last(
    content: Brackets, start: int, stop: int, before: int, *, keep_comma: bool
) -> list[TextEdit]:
    if "#" not in content.gap(before, start):
        return [_deletion(before + keep_comma, stop)]
    row = line_start(content.text, start) if alone_before(content.text, start) else start
    return [_deletion(row, stop)] if keep_comma else [_deletion(before, before + 1), _deletion(row, stop)]


def _deletion(start: int, end: int) -> TextEdit:
    return TextEdit(start=start, end=end, text="")


def remove_items(text: str, sequence: SequenceNode, first: int, last: int) -> TextEdit:
    """Remove items of a block list, the further indented comments below them, and the comments directly above
    at the dash.

    Comments above the first item of the list stay, because they may describe the list.
    """
    at = dash(text, sequence, first)
    start = line_start(text, at)
    column = at - start
    stop = next_line(text, content_end(text, sequence.value[last]))
    while stop < len(text) and (comment_column(text, stop) or 0) > column:
        stop = next_line(text, stop)
    while first and start and comment_column(text, line_before(text, start)) == column:
        start = line_before(text, start)
    above = sequence.value[first - 1] if first else None
    return remove_lines(text, start, stop, above, is_last=last == len(sequence.value) - 1)


def remove_lines(text: str, start: int, stop: int, above: Node | None, *, is_last: bool) -> TextEdit:
    """Remove lines, and the blank lines above or below them, so that the wider of both gaps stays.

    Before the first item and after the last one, the gap to the surrounding text stays. Below a block that
    includes its trailing blank lines (`|+`) no blank line may follow, unless a comment has ended the block.
    """
    heading = start > 0 and comment_column(text, line_before(text, start)) is not None
    top, bottom = _blanks_above(text, start), _blanks_below(text, stop)
    ended = heading and above is not None and line_before(text, start) >= content_end(text, above)
    keeps = above is not None and keeps_blank_lines(text, above) and not ended
    is_first = above is None and not heading
    if keeps or is_first or (not is_last and _count(text, top, start) >= _count(text, stop, bottom)):
        return TextEdit(start=start, end=bottom, text="")
    return TextEdit(start=top, end=stop, text="")


def _blanks_above(text: str, start: int) -> int:
    while start and is_blank(text, line_before(text, start)):
        start = line_before(text, start)
    return start


def _blanks_below(text: str, stop: int) -> int:
    while stop < len(text) and is_blank(text, stop):
        stop = next_line(text, stop)
    return stop


def _count(text: str, start: int, end: int) -> int:
    lines = 0
    while start < end:
        start, lines = next_line(text, start), lines + 1
    return lines


def edit_list(text: str, old: Entry, new: list[Any], *, json: bool) -> list[TextEdit]:
    """Return the edits that turn the items of a list into the new ones; neither is empty."""
    assert isinstance(old.value, SequenceNode)
    _refuse_shared(text, old.value)
    kinds = [_kind(value_of(item)) for item in old.value.value]
    known = {kind: text[start:end] for kind, (start, end) in zip(kinds, _spans(text, old.value), strict=True)}
    items = _Items(text=text, node=old.value, json=json, known=known)
    edits: list[TextEdit] = []
    steps = SequenceMatcher(None, kinds, [_kind(value) for value in new], autojunk=False).get_opcodes()
    for _, a, b, c, d in (step for step in steps if step[0] != "equal"):
        paired = min(b - a, d - c)
        edits += [items.replaced(a + i, new[c + i]) for i in range(paired)]
        if b - a > paired:
            edits += items.removed(a + paired, b - 1)
        if d - c > paired:
            edits += items.inserted(a + paired, new[c + paired : d])
    return edits


def _refuse_shared(text: str, sequence: SequenceNode) -> None:
    before = int(sequence.start_mark.index)
    for item in sequence.value:
        if is_shared(text, before, item):
            line = sequence.start_mark.line + 1
            raise EditConflict(
                f"the list on line {line} has an anchor, an alias or a tag in it", "write its items out"
            )
        before = int(item.end_mark.index)


def _kind(value: Any) -> str:
    """Return a comparable form of the value, in which `1` and `"1"` differ."""
    return repr(value)


def _spans(text: str, sequence: SequenceNode) -> Iterator[tuple[int, int]]:
    return ((int(item.start_mark.index), content_end(text, item)) for item in sequence.value)


@dataclass(frozen=True, kw_only=True)
class _Items:
    """The present items of a list. `known` holds the source text of each value that the list already has."""

    text: str
    node: SequenceNode
    json: bool
    known: dict[str, str]

    def replaced(self, at: int, value: Any) -> TextEdit:
        item = self.node.value[at]
        start, end = int(item.start_mark.index), content_end(self.text, item)
        source = self._source(value, item.start_mark.column, quote_of(item))
        return TextEdit(start=start, end=end, text=source if start < end else f" {source}")

    def removed(self, first: int, last: int) -> list[TextEdit]:
        if self.node.flow_style:
            return remove_elements(brackets(self.text, self.node), first, last)
        return [remove_items(self.text, self.node, first, last)]

    def inserted(self, at: int, values: Sequence[Any]) -> list[TextEdit]:
        quotes = {quote_of(item) for item in self.node.value}
        quote = quotes.pop() if len(quotes) == 1 else ""
        if self.node.flow_style:
            return insert_elements(
                brackets(self.text, self.node), at, [self._source(v, 0, quote) for v in values]
            )
        first = dash(self.text, self.node, 0)
        start = line_start(self.text, first)
        lines = list(self._lines(self.text[start:first], first, values, quote))
        if at == 0:
            newline = line_end_text(self.text)
            return [TextEdit(start=start, end=start, text="".join(line + newline for line in lines))]
        above = self.node.value[at - 1]
        return below(self.text, above, content_end(self.text, above), first - start, lines)

    def _lines(self, indent: str, first: int, values: Sequence[Any], quote: str) -> Iterator[str]:
        gap = self.text[first + 1 : self.node.value[0].start_mark.index]
        gap = gap if gap and not gap.strip(" ") else " "
        for value in values:
            yield indent + "-" + gap + self._source(value, len(indent) + 1 + len(gap), quote)

    def _source(self, value: Any, column: int, quote: str) -> str:
        """Return the text of an item; below a dash, its further lines start at the column."""
        known = self.known.get(_kind(value), "")
        if known and not BREAK.search(known):
            return known
        if self.json:
            return rendering.like_json(value)
        if isinstance(value, dict) and value and not self.node.flow_style:
            return (line_end_text(self.text) + " " * column).join(rendering.block(value))
        in_brackets = bool(self.node.flow_style) or isinstance(value, dict | list)
        return (
            rendering.flow(value, quote=quote)
            if in_brackets
            else rendering.scalar(value, flow=False, quote=quote)
        )
