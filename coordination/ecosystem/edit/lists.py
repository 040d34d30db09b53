"""A list changed as little as can be: what stays keeps its bytes and its comment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from yaml.nodes import SequenceNode

from coordination.ecosystem.edit import flow, rendering
from coordination.ecosystem.edit.regions import without_items
from coordination.ecosystem.edit.writing import Style
from coordination.ecosystem.yaml_text.lines import (
    BREAK,
    below,
    content_end,
    dash,
    line_end_text,
    line_start,
)
from coordination.ecosystem.yaml_text.splices import Entry, TextEdit, is_shared, quote_of
from coordination.ecosystem.yaml_text.values import value_of
from coordination.errors import EditConflict


def amend_list(text: str, old: Entry, new: list[Any], hand: Style) -> list[TextEdit]:
    """The splices that turn the items of the list into the new ones; both have some."""
    assert isinstance(old.value, SequenceNode)
    _refuse_shared(text, old.value)
    kinds = [_kind(value_of(item)) for item in old.value.value]
    known = {kind: text[start:end] for kind, (start, end) in zip(kinds, _spans(text, old.value), strict=True)}
    items = _Items(text=text, node=old.value, json=hand.json, known=known)
    splices: list[TextEdit] = []
    steps = SequenceMatcher(None, kinds, [_kind(value) for value in new], autojunk=False).get_opcodes()
    for _, a, b, c, d in (step for step in steps if step[0] != "equal"):
        paired = min(b - a, d - c)
        splices += [items.replaced(a + i, new[c + i]) for i in range(paired)]
        if b - a > paired:
            splices += items.removed(a + paired, b - 1)
        if d - c > paired:
            splices += items.inserted(a + paired, new[c + paired : d])
    return splices


def _refuse_shared(text: str, sequence: SequenceNode) -> None:
    done = int(sequence.start_mark.index)
    for item in sequence.value:
        if is_shared(text, done, item):
            line = sequence.start_mark.line + 1
            raise EditConflict(f"the list on line {line} has an anchor, an alias or a tag in it", "write its items out")
        done = int(item.end_mark.index)


def _kind(value: Any) -> str:
    """What can be compared: `1` and `"1"` differ."""
    return repr(value)


def _spans(text: str, sequence: SequenceNode) -> Iterator[tuple[int, int]]:
    return ((int(item.start_mark.index), content_end(text, item)) for item in sequence.value)


@dataclass(frozen=True, kw_only=True)
class _Items:
    """The items of a list as they stand. `known` is how each value is written that the list has already."""

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
            return flow.remove(flow.parts(self.text, self.node), first, last)
        return [without_items(self.text, self.node, first, last)]

    def inserted(self, at: int, values: Sequence[Any]) -> list[TextEdit]:
        quotes = {quote_of(item) for item in self.node.value}
        quote = quotes.pop() if len(quotes) == 1 else ""
        if self.node.flow_style:
            return flow.insert(flow.parts(self.text, self.node), at, [self._source(v, 0, quote) for v in values])
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
        """An item as it is written; below a dash its further lines begin at the column."""
        known = self.known.get(_kind(value), "")
        if known and not BREAK.search(known):
            return known
        if self.json:
            return rendering.like_json(value)
        if isinstance(value, dict) and value and not self.node.flow_style:
            return (line_end_text(self.text) + " " * column).join(rendering.block(value))
        in_brackets = bool(self.node.flow_style) or isinstance(value, dict | list)
        return rendering.flow(value, quote=quote) if in_brackets else rendering.scalar(value, flow=False, quote=quote)
