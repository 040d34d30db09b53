"""Edits of lists of records: add records at the end, or remove one, in the style of their neighbours.

A new record copies its neighbour's order of fields, quotes, brackets and indentation; missing sections are
created.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from yaml.nodes import CollectionNode, MappingNode, Node, SequenceNode

from coordination.ecosystem.yaml_text import rendering
from coordination.ecosystem.yaml_text.fields import insert_entry, refuse_shared, replace_value, style_of
from coordination.ecosystem.yaml_text.lines import (
    Entry,
    TextEdit,
    alone_before,
    below,
    blank_above,
    content_end,
    dash,
    entry,
    is_alias,
    is_shared,
    keeps_blank_lines,
    like_json,
    line_end_text,
    line_start,
    quote_of,
)
from coordination.ecosystem.yaml_text.lists import (
    Brackets,
    brackets,
    insert_elements,
    remove_elements,
    remove_items,
)
from coordination.ecosystem.yaml_text.rendering import RenderedValue, Style, write
from coordination.ecosystem.yaml_text.tree import Location, value_of
from coordination.errors import EditConflict
from coordination.models import Coordination, Ecosystem, Plan


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Indentation of names below a name, of a list's dashes below its name, and of an item's fields after its
    dash.
    """

    step: int = rendering.STEP
    dash: int = rendering.STEP
    item: int = 2


def layout_of(root: Node) -> Layout:
    """Return the indentation that the first sections show."""
    indents: dict[str, int] = {}
    for key, value in _entries(root, 2):
        inside = value.start_mark.column - key.start_mark.column
        if isinstance(value, MappingNode) and inside > 0:
            indents.setdefault("step", inside)
        elif isinstance(value, SequenceNode) and value.value and inside >= 0 and "dash" not in indents:
            indents["dash"] = inside
            indents["item"] = max(value.value[0].start_mark.column - value.start_mark.column, 2)
    return Layout(**{"step": indents.get("dash") or rendering.STEP} | indents)


def _entries(node: Node, depth: int) -> Iterator[tuple[Node, CollectionNode]]:
    """Yield the names of sections in block style with their values."""
    for key, value in node.value if isinstance(node, MappingNode) and depth else ():
        if (
            isinstance(value, CollectionNode)
            and not value.flow_style
            and value.start_mark.line > key.start_mark.line
        ):
            yield key, value
            yield from _entries(value, depth - 1)


def insert_section(
    text: str,
    owner: MappingNode,
    names: Sequence[str],
    record: dict[str, Any],
    order: Sequence[str],
    layout: Layout,
) -> list[TextEdit]:
    """Insert the missing sections, the first of them in `owner`."""
    name, *rest = names
    written = _section(rest, record, style_of(text, owner, name), layout)
    return insert_entry(text, owner, name, written, order, blank_line=_spaced(text, owner))


def _spaced(text: str, mapping: MappingNode) -> bool:
    """Return whether blank lines separate the entries."""
    return not mapping.flow_style and any(
        alone_before(text, key.start_mark.index) and blank_above(text, key.start_mark.index)
        for key, _ in mapping.value[1:]
    )


def fill_section(
    text: str, mapping: MappingNode, owner: Entry, rest: list[str], record: dict[str, Any], layout: Layout
) -> list[TextEdit]:
    """Write a section in place of an empty value (`~`, `[]`, `{}`)."""
    written = _section(rest, record, style_of(text, mapping, owner.key.value), layout)
    return replace_value(text, owner, written, flow_style=bool(mapping.flow_style))


def _section(rest: list[str], record: dict[str, Any], style: Style, layout: Layout) -> RenderedValue:
    if style.flow:
        value: Any = [record]
        for name in reversed(rest):
            value = {name: value}
        return RenderedValue(head=rendering.like_json(value) if style.json else rendering.flow(value))
    names = [" " * (style.column + layout.step * (i + 1)) + f"{name}:" for i, name in enumerate(rest)]
    column = style.column + layout.step * len(rest) + layout.dash
    inner = column + layout.item
    lines = block_fields(record, Style(column=inner, inner=inner + rendering.STEP))
    dash_and_gap = " " * column + "-".ljust(layout.item)
    return RenderedValue(head="", lines=(*names, dash_and_gap + lines[0], *lines[1:]))


def add_items(
    text: str, root: Node, place: Location, records: Sequence[Mapping[str, Any]], order: Sequence[str]
) -> list[TextEdit]:
    """Append the records to the list at that place, each in the style of its last item; a missing list or
    section is created, for one record.

    It is inserted after the last item and the comments that are indented further than its dash; a comment at
    the dash's own column stays below, because it may belong to the following text. `place` may be () if the
    root is the list, or a slice of it.
    """
    node: Node = root
    owner: Entry | None = None
    new_items = [_fields(record, order) for record in records]
    for i, step in enumerate(place):
        if isinstance(step, int):
            assert isinstance(node, SequenceNode)
            node = node.value[step]
            continue
        if not isinstance(node, MappingNode):
            raise _no_place(node, place)
        owner = entry(node, step)
        rest = [str(name) for name in place[i + 1 :]]
        if owner is None:
            (one,) = new_items
            return insert_section(text, node, (step, *rest), one, _sections(place[:i]), layout_of(root))
        refuse_shared(text, owner)
        if _is_empty(owner.value):
            (one,) = new_items
            return fill_section(text, node, owner, rest, one, layout_of(root))
        node = owner.value
    if not isinstance(node, SequenceNode):
        raise _no_place(node, place)
    return _append(text, node, new_items)


def _is_empty(node: Node) -> bool:
    """Return whether the value is empty: no text, `~`, `[]` or `{}`."""
    return not node.value if isinstance(node, CollectionNode) else value_of(node) is None


def _no_place(node: Node, place: Location) -> EditConflict:
    name = ".".join(map(str, place))
    return EditConflict(
        f"line {node.start_mark.line + 1}: there is no list {name} to which a record can be added",
        "write the list out",
    )


def _sections(owner: Location) -> list[str]:
    """Return the names of the sections next to the list, in the order of their model."""
    model = Ecosystem if not owner else Coordination if owner == ("coordination",) else Plan
    return list(model.model_fields)


def _fields(record: Mapping[str, Any], order: Sequence[str]) -> dict[str, Any]:
    return {
        name: record[name]
        for name in sorted(record, key=lambda n: order.index(n) if n in order else len(order))
    }


def _append(text: str, sequence: SequenceNode, records: Sequence[dict[str, Any]]) -> list[TextEdit]:
    last = sequence.value[-1]
    neighbour = (
        last if isinstance(last, MappingNode) and not is_alias(sequence.start_mark.index, last) else None
    )
    new_items = [in_order_of(neighbour, record) for record in records]
    if sequence.flow_style:
        items = [flow_item(text, neighbour, fields) for fields in new_items]
        return insert_elements(brackets(text, sequence), len(sequence.value), items)
    first = dash(text, sequence, 0)
    start = first - line_start(text, first)
    spaced = len(sequence.value) > 1 and blank_above(text, dash(text, sequence, len(sequence.value) - 1))
    blank = [""] if spaced and not keeps_blank_lines(text, sequence) else []
    lines = [
        line for fields in new_items for line in blank + item_lines(text, sequence, neighbour, fields, start)
    ]
    return below(text, sequence, content_end(text, sequence), start, lines)


def remove_item(text: str, owner: MappingNode, key: str, index: int) -> list[TextEdit]:
    """Remove an item with the comments on its lines and those directly above it at its dash.

    Comments above the first item stay, because they may describe the list. Removing the only item leaves
    `[]`.
    """
    list_entry = entry(owner, key)
    if list_entry is None or not isinstance(list_entry.value, SequenceNode):
        raise EditConflict(
            f"line {owner.start_mark.line + 1}: {key} is written through an alias or '<<'", "write it out"
        )
    refuse_shared(text, list_entry)
    sequence = list_entry.value
    _refuse_shared_item(text, sequence, index)
    if sequence.flow_style:
        return remove_elements(brackets(text, sequence), index, index)
    if len(sequence.value) == 1:
        return replace_value(text, list_entry, RenderedValue(head="[]"), flow_style=False)
    return [remove_items(text, sequence, index, index)]


def _refuse_shared_item(text: str, sequence: SequenceNode, index: int) -> None:
    item = sequence.value[index]
    start = int(sequence.start_mark.index)
    if is_shared(text, start, item):
        line = (sequence if is_alias(start, item) else item).start_mark.line + 1
        raise EditConflict(f"line {line}: the item has an anchor, an alias or a tag", "remove it by hand")


def in_order_of(neighbour: MappingNode | None, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields in the neighbour's order; fields that it lacks follow their
    predecessor in the model.
    """
    order = [key.value for key, _ in neighbour.value] if neighbour else []
    names = [name for name in order if name in fields]
    before = ""
    for name in fields:
        if name not in names:
            names.insert(names.index(before) + 1 if before else 0, name)
        before = name
    return {name: fields[name] for name in names}


def item_lines(
    text: str, sequence: SequenceNode, neighbour: MappingNode | None, fields: dict[str, Any], column: int
) -> list[str]:
    at = dash(text, sequence, len(sequence.value) - 1)
    indent = " " * column
    if neighbour is None:
        lines = block_fields(fields, Style(column=column + 2, inner=column + 2 + rendering.STEP))
        return [f"{indent}- {lines[0]}", *lines[1:]]
    gap = text[at + 1 : neighbour.start_mark.index]
    gap = gap if gap and not gap.strip(" ") else " "
    if neighbour.flow_style:
        return [f"{indent}-{gap}{flow_item(text, neighbour, fields)}"]
    lines = _lines_like(text, neighbour, fields)
    if not alone_before(text, neighbour.value[0][0].start_mark.index):
        return [f"{indent}-{gap}{lines[0]}", *lines[1:]]
    return [f"{indent}-", " " * neighbour.value[0][0].start_mark.column + lines[0], *lines[1:]]


def _lines_like(text: str, neighbour: MappingNode, fields: dict[str, Any]) -> list[str]:
    """Return the lines of the fields, each in the style of the neighbour's field of that name."""
    key = neighbour.value[0][0]
    quote = quote_of(key)
    lines: list[str] = []
    for name, value in fields.items():
        style = style_of(text, neighbour, name, entry(neighbour, name)).for_another(value)
        first, *more = write(value, style).lines_after(f"{quote}{name}{quote}")
        lines += [" " * key.start_mark.column + first if lines else first, *more]
    return lines


def flow_item(text: str, neighbour: MappingNode | None, fields: dict[str, Any]) -> str:
    if neighbour is None or not neighbour.flow_style or not neighbour.value:
        return rendering.flow(fields)
    if like_json(neighbour) and _is_one_line(text, neighbour):
        return rendering.like_json(fields)
    key = neighbour.value[0][0]
    quote = quote_of(key)
    parts = []
    for name, value in fields.items():
        style = style_of(text, neighbour, name, entry(neighbour, name))
        parts.append(f"{quote}{name}{quote}: {write(value, style).head}")
    row = brackets(text, neighbour)
    if not _is_one_line(text, neighbour) and alone_before(text, row.spans[-1][0]):
        return _rows(text, row, parts)
    padding = " " if text[row.open] == " " and text[row.open : row.spans[0][0]].strip(" ") == "" else ""
    return "{" + padding + ", ".join(parts) + padding + "}"


def _is_one_line(text: str, node: Node) -> bool:
    return bool(node.start_mark.line == node.end_mark.line)


def _rows(text: str, content: Brackets, parts: list[str]) -> str:
    """Put each field on a separate line, indented as the neighbour's last field."""
    newline = line_end_text(text)
    last = content.spans[-1][0]
    row = newline + text[line_start(text, last) : last]
    close = (
        newline + text[line_start(text, content.close) : content.close]
        if alone_before(text, content.close)
        else ""
    )
    comma = "," if content.commas[-1] is not None else ""
    return "{" + row + ("," + row).join(parts) + comma + close + "}"


def block_fields(record: dict[str, Any], style: Style) -> list[str]:
    """Return the lines of a record without a neighbour; the first one starts after the dash."""
    lines: list[str] = []
    for name, value in record.items():
        first, *more = write(value, replace(style, date=name in rendering.DATES)).lines_after(name)
        lines += [" " * style.column + first if lines else first, *more]
    return lines
