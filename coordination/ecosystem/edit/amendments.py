"""Edits of one record in YAML text: a field set, or removed with the comments about it and one of two gaps.

All functions are pure: they take the text and its composed nodes and return text edits. The text may be a
slice of a file that was composed alone. A change must be applied before the next one is computed, because the
nodes refer to the text that they were composed from.

A field is rewritten in its own style; a new field gets its place from the model's order and its style from
its neighbours. Unchanged elements of a list keep their bytes. Comments stay, except those on removed lines.
Values that are aliases, have an anchor or a tag, or come through `<<` are refused with EditConflict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from yaml.nodes import MappingNode, Node, SequenceNode

from coordination.ecosystem.edit import flow, rendering
from coordination.ecosystem.edit.rendering import DATES
from coordination.ecosystem.edit.writing import RenderedValue, Style, replace_value, style_of, write
from coordination.ecosystem.yaml_text.lines import (
    BREAK,
    Entry,
    TextEdit,
    after_comments,
    alone_before,
    below,
    comment_column,
    content_end,
    dash,
    entry,
    gap_end,
    is_blank,
    is_shared,
    keeps_blank_lines,
    line_before,
    line_end_text,
    line_start,
    next_line,
    quote_of,
    value_end,
)
from coordination.ecosystem.yaml_text.values import Plain, value_of
from coordination.errors import EditConflict


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


def edit_list(text: str, old: Entry, new: list[Any], style: Style) -> list[TextEdit]:
    """Return the edits that turn the items of a list into the new ones; neither is empty."""
    assert isinstance(old.value, SequenceNode)
    _refuse_shared(text, old.value)
    kinds = [_kind(value_of(item)) for item in old.value.value]
    known = {kind: text[start:end] for kind, (start, end) in zip(kinds, _spans(text, old.value), strict=True)}
    items = _Items(text=text, node=old.value, json=style.json, known=known)
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
    done = int(sequence.start_mark.index)
    for item in sequence.value:
        if is_shared(text, done, item):
            line = sequence.start_mark.line + 1
            raise EditConflict(
                f"the list on line {line} has an anchor, an alias or a tag in it", "write its items out"
            )
        done = int(item.end_mark.index)


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
            return flow.remove(flow.parts(self.text, self.node), first, last)
        return [remove_items(self.text, self.node, first, last)]

    def inserted(self, at: int, values: Sequence[Any]) -> list[TextEdit]:
        quotes = {quote_of(item) for item in self.node.value}
        quote = quotes.pop() if len(quotes) == 1 else ""
        if self.node.flow_style:
            return flow.insert(
                flow.parts(self.text, self.node), at, [self._source(v, 0, quote) for v in values]
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


def set_field(
    text: str,
    mapping: MappingNode,
    field: str,
    value: Plain,
    order: Sequence[str],
    *,
    dates: frozenset[str] = DATES,
) -> list[TextEdit]:
    """Set the record's field; None removes it. `order` is the order of the fields in the record's model."""
    old = entry(mapping, field)
    if old is not None and value is not None and repr(value_of(old.value)) == repr(value):
        return []
    if old is not None:
        refuse_shared(text, old)
    if value is None:
        return _refuse_merged(mapping, field) if old is None else _remove(text, mapping, old)
    style = style_of(text, mapping, field, old, dates)
    if old is None:
        return insert_entry(text, mapping, field, write(value, style), order)
    if not style.block and _comment_below(text, old):
        style = style.on_one_line()
    if isinstance(value, list | tuple) and value and isinstance(old.value, SequenceNode) and old.value.value:
        return edit_list(text, old, list(value), style)
    node = old.value
    if (
        isinstance(value, dict)
        and isinstance(node, MappingNode)
        and (changed := _names_to_change(node, value))
    ):
        return [
            edit
            for name in changed
            for edit in set_field(text, node, name, value.get(name), list(value), dates=frozenset())
        ]
    return replace_value(text, old, write(value, style), flow_style=bool(mapping.flow_style))


def _comment_below(text: str, old: Entry) -> bool:
    """Return whether a comment follows that would become a part of a block of text."""
    below_ = next_line(text, value_end(text, old.key, old.value))
    return after_comments(text, below_, old.key.start_mark.column) > below_


def refuse_shared(text: str, old: Entry) -> None:
    """Raise EditConflict for a value that other places of the file may refer to."""
    if is_shared(text, int(old.key.end_mark.index), old.value):
        name = old.key.value
        raise EditConflict(
            f"line {old.key.start_mark.line + 1}: {name} has an anchor, an alias or a tag",
            f"write the value of {name} out there, and try again",
        )


def _refuse_merged(mapping: MappingNode, field: str) -> list[TextEdit]:
    """Return no edits for a missing field. Raise EditConflict if the field comes through `<<`."""
    if entry(mapping, "<<") is not None and field in value_of(mapping):
        line = mapping.start_mark.line + 1
        raise EditConflict(
            f"line {line}: {field} comes through '<<'", "write the fields out there, and try again"
        )
    return []


def _names_to_change(mapping: MappingNode, value: dict[str, Plain]) -> list[str]:
    """Return the names whose values differ; [] if the mapping must be rewritten, because the changes could
    overlap.
    """
    old = value_of(mapping)
    names = [
        name for name in {**old, **value} if name not in old or name not in value or old[name] != value[name]
    ]
    gone, new = old.keys() - value.keys(), value.keys() - old.keys()
    at_once = len(gone) + len(new) if mapping.flow_style else bool(gone) + bool(new)
    anew = at_once > 1 or gone == old.keys() or any(value.get(name, 0) is None for name in names)
    return [] if anew else names


def insert_entry(
    text: str,
    mapping: MappingNode,
    field: str,
    written: RenderedValue,
    order: Sequence[str],
    *,
    blank_line: bool = False,
) -> list[TextEdit]:
    """Insert an entry after the nearest preceding one in the order that exists, else before all."""
    names = [key.value for key, _ in mapping.value]
    earlier = (
        [name for name in order[: order.index(field)] if name in names] if field in order else names[-1:]
    )
    at = names.index(earlier[-1]) + 1 if earlier else 0
    if not names[at - 1 : at] and names[:1] == ["<<"]:
        at = 1
    beside = mapping.value[max(at - 1, 0)][0] if names else None
    if beside is not None and _follows_question_mark(text, int(beside.start_mark.index)):
        raise EditConflict(
            f"line {mapping.start_mark.line + 1}: there is no place for {field} beside names with '?'",
            f"write {field} there by hand",
        )
    quote = quote_of(beside) if beside is not None else ""
    name = f"{quote}{field}{quote}"
    if mapping.flow_style:
        return flow.insert(flow.parts(text, mapping), at, [f"{name}:{_space(text, mapping)}{written.head}"])
    return _insert_lines(text, mapping, at, written.lines_after(name), blank_line)


def _follows_question_mark(text: str, at: int) -> bool:
    while at and text[at - 1] in " \t":
        at -= 1
    return text[at - 1 : at] == "?"


def _space(text: str, mapping: MappingNode) -> str:
    """Return the text between colon and value: nothing in compact JSON, else a space."""
    for key, value in mapping.value:
        if key.style == '"' and text[key.end_mark.index : value.start_mark.index] == ":":
            return ""
    return " "


def _insert_lines(
    text: str, mapping: MappingNode, at: int, lines: list[str], blank_line: bool
) -> list[TextEdit]:
    """Insert lines below an entry and its indented comments; the first line of `lines` gets the entry's
    indentation.
    """
    newline = line_end_text(text)
    column = mapping.value[max(at - 1, 0)][0].start_mark.column
    indent = " " * column
    whole = [f"{indent}{line}" if i == 0 else line for i, line in enumerate(lines)]
    if at == 0:
        start = int(mapping.value[0][0].start_mark.index)
        return [TextEdit(start=start, end=start, text=newline.join([*lines, ""]) + indent)]
    key, value = mapping.value[at - 1]
    return below(text, value, value_end(text, key, value), column, ([""] if blank_line else []) + whole)


def _remove(text: str, mapping: MappingNode, old: Entry) -> list[TextEdit]:
    at = next(i for i, (key, _) in enumerate(mapping.value) if key is old.key)
    if mapping.flow_style:
        return flow.remove(flow.parts(text, mapping), at, at)
    start = int(old.key.start_mark.index)
    stop = next_line(text, value_end(text, old.key, old.value))
    if len(mapping.value) == 1:
        return [TextEdit(start=start, end=value_end(text, old.key, old.value), text="{}")]
    if alone_before(text, start):
        above = mapping.value[at - 1][1] if at else None
        return [
            remove_lines(text, line_start(text, start), stop, above, is_last=at == len(mapping.value) - 1)
        ]
    following = stop if text[stop : gap_end(text, stop)].strip() else gap_end(text, stop)
    while text[following] in " \t\r\n":  # up to the comment or name that now follows the dash
        following += 1
    return [TextEdit(start=start, end=following, text="")]
