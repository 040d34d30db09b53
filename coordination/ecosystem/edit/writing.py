"""Writing of a value in the style of the value it replaces, or of the values beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode

from coordination.ecosystem.edit import rendering
from coordination.ecosystem.yaml_text.lines import (
    BREAKS,
    Entry,
    TextEdit,
    after_comments,
    block_header,
    content_end,
    gap_end,
    is_blank,
    like_json,
    line_before,
    line_end_text,
    line_start,
    line_stop,
    next_line,
)
from coordination.ecosystem.yaml_text.tree import PLAIN
from coordination.ecosystem.yaml_text.values import plain_value


@dataclass(frozen=True, kw_only=True)
class Style:
    """Style of one field's value."""

    column: int
    """Column of the field's name."""
    flow: bool = False
    json: bool = False
    quote: str = ""
    date: bool = False
    block: str = ""
    """`|` or `>` if text is written as a block even when it fits on one line."""
    lines: bool = True
    """Allow a block for text of several lines."""
    keeps: bool = False
    """Allow a block that includes the blank lines after it (`|+`)."""
    inner: int
    """Column of the lines of a block."""
    width: int = rendering.WIDTH
    brackets: bool = False
    """Prefer brackets for a list or mapping."""
    dashes: bool = False
    """Prefer one line per item for a list."""

    def for_another(self, value: Any) -> Style:
        """Return the style for the same field of another record, where text that fits on one line needs no
        block.
        """
        fits = isinstance(value, str) and "\n" not in value and len(value) + self.inner <= self.width
        return replace(self, block="" if fits else self.block, keeps=False)

    def on_one_line(self) -> Style:
        """Return a style that writes text of several lines with escapes."""
        return replace(self, lines=False)

    @property
    def may_be_lines(self) -> bool:
        return self.lines and not self.flow and self.quote != '"'

    @property
    def deeper(self) -> int:
        """Return the column of lines that must be indented further than the name; those of a list need not
        be.
        """
        return self.inner if self.inner > self.column else self.column + rendering.STEP


@dataclass(frozen=True, kw_only=True)
class RenderedValue:
    """A rendered value: the text beside the name, and the lines below it."""

    head: str
    lines: tuple[str, ...] = ()

    def lines_after(self, name: str) -> list[str]:
        return [f"{name}: {self.head}".rstrip(" "), *self.lines]

    @property
    def is_literal(self) -> bool:
        return bool(self.lines) and bool(self.head)


def style_of(
    text: str,
    mapping: MappingNode,
    field: str,
    old: Entry | None = None,
    dates: frozenset[str] = rendering.DATES,
) -> Style:
    """Return the style of the present value; for a new one, that of the other values. `dates` are fields that
    hold dates.
    """
    column = (old.key if old else mapping.value[0][0] if mapping.value else mapping).start_mark.column
    date = field in dates
    if mapping.flow_style:
        json = like_json(mapping) and bool(mapping.value)
        return Style(
            column=column, flow=True, json=json, quote=_quote(mapping, old, date), date=date, inner=column + 2
        )
    style = Style(column=column, quote=_quote(mapping, old, date), date=date, inner=column + rendering.STEP)
    if old is None or old.is_alias:
        return style
    return _style_of_old(text, style, old.value)


def _style_of_old(text: str, style: Style, old: Node) -> Style:
    if isinstance(old, ScalarNode) and old.style in ("|", ">"):
        lines = _block_lines(text, old)
        inner = min((len(line) - len(line.lstrip(" ")) for line in lines), default=style.inner)
        width = max([rendering.WIDTH - 40, *map(len, lines)])
        return replace(style, inner=inner, block=old.style, keeps=True, width=width)
    if isinstance(old, CollectionNode) and old.value:
        if old.flow_style:
            return replace(style, brackets=True)
        first = old.value[0][0] if isinstance(old, MappingNode) else old
        return replace(style, inner=first.start_mark.column, dashes=True)
    return style


def _block_lines(text: str, scalar: Node) -> list[str]:
    start, end = int(scalar.start_mark.index), content_end(text, scalar)
    body = text[next_line(text, start) : max(end, next_line(text, start))]
    return [line for line in re.split(f"[{BREAKS}]", body) if line.strip(" ")]


def _quote(mapping: MappingNode, old: Entry | None, date: bool) -> str:
    """Return the quotes of the old value, else those that all similar values beside it have."""
    if (
        old is not None
        and isinstance(old.value, ScalarNode)
        and old.value.value
        and old.value.style not in ("|", ">")
    ):
        return old.quote
    quotes = {value.style or "" for value in _similar_scalars(mapping, date)}
    return quotes.pop() if len(quotes) == 1 else ""


def _similar_scalars(mapping: MappingNode, date: bool) -> Iterator[ScalarNode]:
    for key, value in mapping.value:
        if not isinstance(value, ScalarNode) or value.style in ("|", ">") or not value.value:
            continue
        if (key.value in rendering.DATES) == date and (date or value.tag != PLAIN or _is_text(value.value)):
            yield value


def _is_text(source: str) -> bool:
    try:
        return isinstance(plain_value(source), str)
    except ValueError:
        return True


def write(value: Any, style: Style) -> RenderedValue:
    """Render the value in that style."""
    if style.json:
        return RenderedValue(head=rendering.like_json(value))
    if isinstance(value, dict | list | tuple):
        return _write_collection(value, style)
    if isinstance(value, str) and (style.block or ("\n" in value and style.may_be_lines)):
        for block_style in dict.fromkeys((_block_style(value, style), "|")):
            block = rendering.literal(value, style.deeper, block_style, style.width)
            if block and (style.keeps or "+" not in block[0]):
                return RenderedValue(head=block[0], lines=tuple(block[1]))
    return RenderedValue(head=rendering.scalar(value, flow=style.flow, quote=style.quote, date=style.date))


def _block_style(value: str, style: Style) -> str:
    """Return the block style; a folded block would need two blank lines for each blank line of the text."""
    return "|" if "\n\n" in value.rstrip("\n") else style.block or "|"


def _write_collection(value: Any, style: Style) -> RenderedValue:
    short = not isinstance(value, dict) and not style.dashes and rendering.are_short(list(value))
    if style.flow or style.brackets or not value or short:
        return RenderedValue(head=rendering.flow(value))
    lines = rendering.block(value)
    column = style.deeper if isinstance(value, dict) else style.inner
    return RenderedValue(head="", lines=tuple(" " * column + line if line else line for line in lines))


def replace_value(text: str, old: Entry, new: RenderedValue, *, flow_style: bool) -> list[TextEdit]:
    """Replace the old value; comments on its first and last line stay."""
    value = old.value
    if isinstance(value, ScalarNode) and value.style in ("|", ">"):
        head = TextEdit(start=old.start, end=old.start + len(block_header(text, value)), text=new.head)
        return [head, _replace_lines(text, line_stop(text, old.start), content_end(text, value), new)]
    if isinstance(value, CollectionNode) and not value.flow_style and value.value:
        return _replace_block(text, old, new)
    if old.start == old.end:
        return _replace_empty(text, old, new)
    if not new.head:
        colon = gap_end(text, old.key.end_mark.index) + 1
        line = _below_comments(text, old, line_stop(text, old.end))
        gone = colon if not text[colon : old.start].strip(" ") else old.start
        return [TextEdit(start=gone, end=old.end, text=""), _replace_lines(text, line, line, new)]
    head = TextEdit(start=old.start, end=old.end, text=new.head)
    line = line_stop(text, old.end)
    return [head, _replace_lines(text, line, line, new)] if new.lines and not flow_style else [head]


def _replace_empty(text: str, old: Entry, new: RenderedValue) -> list[TextEdit]:
    """Write a value after the colon, which a flow mapping may omit, too."""
    key_end = int(old.key.end_mark.index)
    colon = gap_end(text, key_end)
    if text[colon : colon + 1] != ":":
        return [TextEdit(start=key_end, end=key_end, text=f": {new.head}")]
    line = line_stop(text, colon)
    head = TextEdit(start=colon + 1, end=colon + 1, text=f" {new.head}" if new.head else "")
    if not new.head:
        line = _below_comments(text, old, line)
    return [head, _replace_lines(text, line, line, new)] if new.lines else [head]


def _below_comments(text: str, old: Entry, line: int) -> int:
    """Return the end of the last comment below the name that is indented further than it."""
    after = after_comments(text, next_line(text, line), old.key.start_mark.column)
    if after == next_line(text, line):
        return line
    return line_stop(text, line_before(text, after)) if text[after - 1] in BREAKS else after


def _replace_block(text: str, old: Entry, new: RenderedValue) -> list[TextEdit]:
    """Replace a block collection; comments above its first line stay, unless they would become text."""
    colon = gap_end(text, old.key.end_mark.index)
    start = line_stop(text, colon)
    if not new.is_literal:
        start = line_stop(text, line_before(text, line_start(text, old.start)))
    head = [TextEdit(start=colon + 1, end=colon + 1, text=f" {new.head}")] if new.head else []
    return [*head, _replace_lines(text, start, line_stop(text, content_end(text, old.value)), new)]


def _replace_lines(text: str, start: int, end: int, new: RenderedValue) -> TextEdit:
    """Return the edit for the lines below the name; blank lines after `|+` are removed, because they would
    become text.
    """
    newline = line_end_text(text)
    source = "".join(newline + line for line in new.lines)
    if new.is_literal and "+" in new.head:
        while (line := next_line(text, end)) < len(text) and is_blank(text, line) and line > end:
            end = line_stop(text, line)
    if new.is_literal and "-" not in new.head and next_line(text, end) == end:
        source += newline
    return TextEdit(start=start, end=end, text=source)
