"""Edits of one record in YAML text: set a field, or remove it with its comments and one of two blank lines.

The text may be a slice of a file that was composed alone. A change must be applied before the next one is
computed, because the nodes refer to the text that they were composed from.

A field is rewritten in its own style; a new field gets its place from the model's order and its style from
its neighbours. Unchanged elements of a list keep their bytes. Comments stay, except those on removed lines.
Values that are aliases, have an anchor or a tag, or come through `<<` are refused with EditConflict.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from coordination.ecosystem.yaml_text import rendering
from coordination.ecosystem.yaml_text.lines import (
    BREAKS,
    Entry,
    TextEdit,
    after_comments,
    alone_before,
    below,
    block_header,
    content_end,
    entry,
    gap_end,
    is_blank,
    is_shared,
    like_json,
    line_before,
    line_end_text,
    line_start,
    line_stop,
    next_line,
    quote_of,
    value_end,
)
from coordination.ecosystem.yaml_text.lists import (
    brackets,
    edit_list,
    insert_elements,
    remove_elements,
    remove_lines,
)
from coordination.ecosystem.yaml_text.rendering import DATES, RenderedValue, Style, write
from coordination.ecosystem.yaml_text.tree import PLAIN, Plain, plain_value, value_of
from coordination.errors import EditConflict


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
    """Return the quotes of the old value, else those that all similar values next to it have."""
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
        start = colon if not text[colon : old.start].strip(" ") else old.start
        return [TextEdit(start=start, end=old.end, text=""), _replace_lines(text, line, line, new)]
    head = TextEdit(start=old.start, end=old.end, text=new.head)
    line = line_stop(text, old.end)
    return [head, _replace_lines(text, line, line, new)] if new.lines and not flow_style else [head]


def _replace_empty(text: str, old: Entry, new: RenderedValue) -> list[TextEdit]:
    """Write a value after the colon, and the colon itself where a flow mapping omits it."""
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
        return edit_list(text, old, list(value), json=style.json)
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
    following = next_line(text, value_end(text, old.key, old.value))
    return after_comments(text, following, old.key.start_mark.column) > following


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
    removed, added = old.keys() - value.keys(), value.keys() - old.keys()
    at_once = len(removed) + len(added) if mapping.flow_style else bool(removed) + bool(added)
    overlap = at_once > 1 or removed == old.keys() or any(value.get(name, 0) is None for name in names)
    return [] if overlap else names


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
    neighbour = mapping.value[max(at - 1, 0)][0] if names else None
    if neighbour is not None and _follows_question_mark(text, int(neighbour.start_mark.index)):
        raise EditConflict(
            f"line {mapping.start_mark.line + 1}: {field} cannot be added beside names with '?'",
            f"write {field} there by hand",
        )
    quote = quote_of(neighbour) if neighbour is not None else ""
    name = f"{quote}{field}{quote}"
    if mapping.flow_style:
        return insert_elements(brackets(text, mapping), at, [f"{name}:{_space(text, mapping)}{written.head}"])
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
        return remove_elements(brackets(text, mapping), at, at)
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
