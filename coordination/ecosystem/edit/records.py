"""A record added at the end of a section or taken out of it, in the style of its neighbours; a missing section is made.

A new record as its neighbour in the list is written: order, quotes, brackets, and how far in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from yaml.nodes import CollectionNode, MappingNode, Node, SequenceNode

from coordination.ecosystem.edit import flow, rendering
from coordination.ecosystem.edit.amendments import insert_entry, refuse_shared, without_items
from coordination.ecosystem.edit.writing import Style, Written, hand_of, put, write
from coordination.ecosystem.yaml_text.lines import (
    alone_before,
    below,
    blank_above,
    content_end,
    dash,
    keeps_blank_lines,
    line_end_text,
    line_start,
)
from coordination.ecosystem.yaml_text.places import Location
from coordination.ecosystem.yaml_text.splices import Entry, TextEdit, entry, is_alias, is_shared, like_json, quote_of
from coordination.ecosystem.yaml_text.values import value_of
from coordination.errors import EditConflict
from coordination.models import Coordination, Ecosystem, Plan


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How far in things stand: names below a name, the dashes of a list below its name, an item's fields after its dash."""

    step: int = rendering.STEP
    dash: int = rendering.STEP
    item: int = 2


def layout_of(root: Node) -> Layout:
    """As the first section shows it."""
    found: dict[str, int] = {}
    for key, value in _entries(root, 2):
        inside = value.start_mark.column - key.start_mark.column
        if isinstance(value, MappingNode) and inside > 0:
            found.setdefault("step", inside)
        elif isinstance(value, SequenceNode) and value.value and inside >= 0 and "dash" not in found:
            found["dash"] = inside
            found["item"] = max(value.value[0].start_mark.column - value.start_mark.column, 2)
    return Layout(**{"step": found.get("dash") or rendering.STEP} | found)


def _entries(node: Node, depth: int) -> Iterator[tuple[Node, CollectionNode]]:
    """The names of sections, and what stands on the lines below them."""
    for key, value in node.value if isinstance(node, MappingNode) and depth else ():
        if isinstance(value, CollectionNode) and not value.flow_style and value.start_mark.line > key.start_mark.line:
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
    """The names that are missing, the first of them in `owner`."""
    name, *rest = names
    written = _section(rest, record, hand_of(text, owner, name), layout)
    return insert_entry(text, owner, name, written, order, blank_line=_spaced(text, owner))


def _spaced(text: str, mapping: MappingNode) -> bool:
    """Whether blank lines stand between the entries."""
    return not mapping.flow_style and any(
        alone_before(text, key.start_mark.index) and blank_above(text, key.start_mark.index)
        for key, _ in mapping.value[1:]
    )


def fill_section(
    text: str, mapping: MappingNode, owner: Entry, rest: list[str], record: dict[str, Any], layout: Layout
) -> list[TextEdit]:
    """Instead of nothing, `~`, `[]` or `{}`."""
    written = _section(rest, record, hand_of(text, mapping, owner.key.value), layout)
    return put(text, owner, written, flow_style=bool(mapping.flow_style))


def _section(rest: list[str], record: dict[str, Any], hand: Style, layout: Layout) -> Written:
    if hand.flow:
        value: Any = [record]
        for name in reversed(rest):
            value = {name: value}
        return Written(head=rendering.like_json(value) if hand.json else rendering.flow(value))
    names = [" " * (hand.column + layout.step * (i + 1)) + f"{name}:" for i, name in enumerate(rest)]
    column = hand.column + layout.step * len(rest) + layout.dash
    inner = column + layout.item
    lines = block_fields(record, Style(column=inner, inner=inner + rendering.STEP))
    dash_and_gap = " " * column + "-".ljust(layout.item)
    return Written(head="", lines=(*names, dash_and_gap + lines[0], *lines[1:]))


def add_item(text: str, root: Node, place: Location, record: Mapping[str, Any], order: Sequence[str]) -> list[TextEdit]:
    """The record at the end of the list at that place; lists and sections that do not exist are made.

    It stands after the last item and the comments further in than its dash; a comment at the dash's own column stays
    below, as it may begin what comes next. `place` may be () where the root is the list, or a slice of it.
    """
    node: Node = root
    owner: Entry | None = None
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
            return insert_section(
                text, node, (step, *rest), _fields(record, order), _sections(place[:i]), layout_of(root)
            )
        refuse_shared(text, owner)
        if _is_nothing(owner.value):
            return fill_section(text, node, owner, rest, _fields(record, order), layout_of(root))
        node = owner.value
    if not isinstance(node, SequenceNode):
        raise _no_place(node, place)
    return _append(text, node, record, order)


def _is_nothing(node: Node) -> bool:
    """Whether nothing, `~`, `[]` or `{}` stands there."""
    return not node.value if isinstance(node, CollectionNode) else value_of(node) is None


def _no_place(node: Node, place: Location) -> EditConflict:
    name = ".".join(map(str, place))
    return EditConflict(
        f"line {node.start_mark.line + 1}: there is no list {name} that can be added to", "write it out"
    )


def _sections(owner: Location) -> list[str]:
    """The names of what stands beside the list, in the order of their model."""
    model = Ecosystem if not owner else Coordination if owner == ("coordination",) else Plan
    return list(model.model_fields)


def _fields(record: Mapping[str, Any], order: Sequence[str]) -> dict[str, Any]:
    return {name: record[name] for name in sorted(record, key=lambda n: order.index(n) if n in order else len(order))}


def _append(text: str, sequence: SequenceNode, record: Mapping[str, Any], order: Sequence[str]) -> list[TextEdit]:
    last = sequence.value[-1]
    neighbour = last if isinstance(last, MappingNode) and not is_alias(sequence.start_mark.index, last) else None
    fields = in_order_of(neighbour, _fields(record, order))
    if sequence.flow_style:
        return flow.insert(flow.parts(text, sequence), len(sequence.value), [flow_item(text, neighbour, fields)])
    first = dash(text, sequence, 0)
    start = first - line_start(text, first)
    lines = item_lines(text, sequence, neighbour, fields, start)
    spaced = len(sequence.value) > 1 and blank_above(text, dash(text, sequence, len(sequence.value) - 1))
    blank = [""] if spaced and not keeps_blank_lines(text, sequence) else []
    return below(text, sequence, content_end(text, sequence), start, blank + lines)


def remove_item(text: str, owner: MappingNode, key: str, index: int) -> list[TextEdit]:
    """The item goes with the comments on its lines and those directly above it at its dash.

    What stands above the first item stays: it may be about the list. The last item leaves `[]`.
    """
    found = entry(owner, key)
    if found is None or not isinstance(found.value, SequenceNode):
        raise EditConflict(
            f"line {owner.start_mark.line + 1}: {key} is written through an alias or '<<'", "write it out"
        )
    refuse_shared(text, found)
    sequence = found.value
    _refuse_shared_item(text, sequence, index)
    if sequence.flow_style:
        return flow.remove(flow.parts(text, sequence), index, index)
    if len(sequence.value) == 1:
        return put(text, found, Written(head="[]"), flow_style=False)
    return [without_items(text, sequence, index, index)]


def _refuse_shared_item(text: str, sequence: SequenceNode, index: int) -> None:
    item = sequence.value[index]
    start = int(sequence.start_mark.index)
    if is_shared(text, start, item):
        line = (sequence if is_alias(start, item) else item).start_mark.line + 1
        raise EditConflict(f"line {line}: the item has an anchor, an alias or a tag", "take it out by hand")


def in_order_of(neighbour: MappingNode | None, fields: dict[str, Any]) -> dict[str, Any]:
    """The neighbour's order; what it does not have comes after the field that it follows in the model."""
    theirs = [key.value for key, _ in neighbour.value] if neighbour else []
    names = [name for name in theirs if name in fields]
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
    lines = _like(text, neighbour, fields)
    if not alone_before(text, neighbour.value[0][0].start_mark.index):
        return [f"{indent}-{gap}{lines[0]}", *lines[1:]]
    return [f"{indent}-", " " * neighbour.value[0][0].start_mark.column + lines[0], *lines[1:]]


def _like(text: str, neighbour: MappingNode, fields: dict[str, Any]) -> list[str]:
    """The lines of the fields, each written as the neighbour's of that name."""
    key = neighbour.value[0][0]
    quote = quote_of(key)
    lines: list[str] = []
    for name, value in fields.items():
        hand = hand_of(text, neighbour, name, entry(neighbour, name)).for_another(value)
        first, *more = write(value, hand).lines_after(f"{quote}{name}{quote}")
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
        hand = hand_of(text, neighbour, name, entry(neighbour, name))
        parts.append(f"{quote}{name}{quote}: {write(value, hand).head}")
    here = flow.parts(text, neighbour)
    if not _is_one_line(text, neighbour) and alone_before(text, here.spans[-1][0]):
        return _rows(text, here, parts)
    padding = " " if text[here.open] == " " and text[here.open : here.spans[0][0]].strip(" ") == "" else ""
    return "{" + padding + ", ".join(parts) + padding + "}"


def _is_one_line(text: str, node: Node) -> bool:
    return bool(node.start_mark.line == node.end_mark.line)


def _rows(text: str, here: flow.Parts, parts: list[str]) -> str:
    """Each field on a line of its own, as far in as the neighbour's last."""
    newline = line_end_text(text)
    last = here.spans[-1][0]
    row = newline + text[line_start(text, last) : last]
    close = newline + text[line_start(text, here.close) : here.close] if alone_before(text, here.close) else ""
    comma = "," if here.commas[-1] is not None else ""
    return "{" + row + ("," + row).join(parts) + comma + close + "}"


def block_fields(record: dict[str, Any], hand: Style) -> list[str]:
    """The lines of a record without a neighbour; the first one begins beside the dash."""
    lines: list[str] = []
    for name, value in record.items():
        first, *more = write(value, replace(hand, date=name in rendering.DATES)).lines_after(name)
        lines += [" " * hand.column + first if lines else first, *more]
    return lines
