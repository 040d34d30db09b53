"""A list changed as little as can be: what stays keeps its bytes and its comment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any

from yaml.nodes import Node, ScalarNode, SequenceNode

from coordination.ecosystem import flow, rendering
from coordination.ecosystem.lines import (
    below,
    content_end,
    dash,
    is_alias,
    line_end_text,
    line_start,
    next_line,
)
from coordination.ecosystem.splices import Entry, Splice
from coordination.ecosystem.values import value_of
from coordination.ecosystem.writing import Hand
from coordination.errors import EditConflict


def amend_list(text: str, old: Entry, new: list[Any], hand: Hand) -> list[Splice]:
    """The splices that turn the items of the list into the new ones; both have some."""
    sequence = old.value
    assert isinstance(sequence, SequenceNode)
    _refuse_aliases(text, sequence)
    kinds = _kinds(sequence, new)
    splices: list[Splice] = []
    steps = SequenceMatcher(None, *kinds, autojunk=False).get_opcodes()
    for _, a, b, c, d in (step for step in steps if step[0] != "equal"):
        paired = min(b - a, d - c)
        for i in range(paired):
            splices += _replace_item(text, sequence, a + i, new[c + i], hand)
        if b - a > paired:
            splices += _remove_items(text, sequence, a + paired, b - 1)
        if d - c > paired:
            splices += _insert_items(text, sequence, a + paired, new[c + paired : d], hand)
    return splices


def _refuse_aliases(text: str, sequence: SequenceNode) -> None:
    done = int(sequence.start_mark.index)
    for item in sequence.value:
        if is_alias(done, item) or text[item.start_mark.index : item.start_mark.index + 1] in ("&", "!"):
            line = sequence.start_mark.line + 1
            raise EditConflict(f"the list on line {line} has an anchor, an alias or a tag in it", "write its items out")
        done = int(item.end_mark.index)


def _kinds(sequence: SequenceNode, new: list[Any]) -> tuple[list[str], list[str]]:
    """What can be compared: `1` and `"1"` differ."""
    return [repr(value_of(item)) for item in sequence.value], [repr(item) for item in new]


def _quote(sequence: SequenceNode) -> str:
    quotes = {item.style or "" for item in sequence.value if isinstance(item, ScalarNode)}
    return quotes.pop() if len(quotes) == 1 and quotes <= {"'", '"'} else ""


def _in_brackets(value: Any, hand: Hand, quote: str) -> str:
    return rendering.like_json(value) if hand.json else rendering.flow(value, quote=quote)


def _replace_item(text: str, sequence: SequenceNode, at: int, value: Any, hand: Hand) -> list[Splice]:
    item = sequence.value[at]
    start, end = int(item.start_mark.index), content_end(text, item)
    if sequence.flow_style:
        return [Splice(start=start, end=end, text=_in_brackets(value, hand, _quote_of(item)))]
    return [
        Splice(
            start=start, end=end, text=_gap(start, end) + _source(text, value, item.start_mark.column, _quote_of(item))
        )
    ]


def _gap(start: int, end: int) -> str:
    return " " if start == end else ""


def _quote_of(item: Node) -> str:
    return item.style if isinstance(item, ScalarNode) and item.style in ("'", '"') else ""


def _source(text: str, value: Any, column: int, quote: str) -> str:
    """An item of a block list; its further lines begin at the column."""
    if isinstance(value, dict) and value:
        return (line_end_text(text) + " " * column).join(rendering.block(value))
    if isinstance(value, dict | list):
        return rendering.flow(value, quote=quote)
    return rendering.scalar(value, flow=False, quote=quote)


def _remove_items(text: str, sequence: SequenceNode, first: int, last: int) -> list[Splice]:
    if sequence.flow_style:
        return flow.remove(flow.parts(text, sequence), first, last)
    return [
        Splice(start=start, end=end, text="")
        for start, end in (_lines_of(text, sequence, i) for i in range(first, last + 1))
    ]


def _lines_of(text: str, sequence: SequenceNode, at: int) -> tuple[int, int]:
    item = sequence.value[at]
    return line_start(text, dash(text, sequence, at)), next_line(text, content_end(text, item))


def _insert_items(text: str, sequence: SequenceNode, at: int, values: Sequence[Any], hand: Hand) -> list[Splice]:
    quote = _quote(sequence)
    if sequence.flow_style:
        return flow.insert(flow.parts(text, sequence), at, [_in_brackets(value, hand, quote) for value in values])
    lines = list(_item_lines(text, sequence, values, quote))
    newline = line_end_text(text)
    if at == 0:
        start = line_start(text, dash(text, sequence, 0))
        return [Splice(start=start, end=start, text="".join(line + newline for line in lines))]
    first = dash(text, sequence, 0)
    return below(
        text, sequence.value[at - 1], content_end(text, sequence.value[at - 1]), first - line_start(text, first), lines
    )


def _item_lines(text: str, sequence: SequenceNode, values: Sequence[Any], quote: str) -> Iterator[str]:
    first = dash(text, sequence, 0)
    indent = text[line_start(text, first) : first]
    gap = text[first + 1 : sequence.value[0].start_mark.index]
    gap = gap if gap and not gap.strip(" ") else " "
    for value in values:
        yield indent + "-" + gap + _source(text, value, len(indent) + 1 + len(gap), quote)
