"""A section that gets its first record: its name if that is missing, too, as far in as the file's other sections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from yaml.nodes import CollectionNode, MappingNode, Node, SequenceNode

from coordination.ecosystem.edit import rendering
from coordination.ecosystem.edit.amendments import insert_entry
from coordination.ecosystem.edit.neighbours import block_fields
from coordination.ecosystem.edit.writing import Style, Written, hand_of, put
from coordination.ecosystem.yaml_text.lines import alone_before, blank_above
from coordination.ecosystem.yaml_text.splices import Entry, TextEdit


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
