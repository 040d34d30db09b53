"""A new record as its neighbour in the list is written: order, quotes, brackets, and how far in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from yaml.nodes import MappingNode, Node, SequenceNode

from coordination.ecosystem.edit import flow, rendering
from coordination.ecosystem.edit.writing import Style, hand_of, write
from coordination.ecosystem.yaml_text.lines import alone_before, dash, line_end_text, line_start
from coordination.ecosystem.yaml_text.splices import entry, like_json, quote_of


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
