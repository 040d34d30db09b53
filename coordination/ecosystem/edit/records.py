"""A record put at the end of a list of records, or taken out of it, in the hand of its neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yaml.nodes import CollectionNode, MappingNode, Node, SequenceNode

from coordination.ecosystem.edit import flow
from coordination.ecosystem.edit.amendments import refuse_shared
from coordination.ecosystem.edit.neighbours import flow_item, in_order_of, item_lines
from coordination.ecosystem.edit.regions import without_items
from coordination.ecosystem.edit.sections import fill_section, insert_section, layout_of
from coordination.ecosystem.edit.writing import Written, put
from coordination.ecosystem.yaml_text.lines import (
    below,
    blank_above,
    content_end,
    dash,
    keeps_blank_lines,
    line_start,
)
from coordination.ecosystem.yaml_text.places import Location
from coordination.ecosystem.yaml_text.splices import Entry, TextEdit, entry, is_alias, is_shared
from coordination.ecosystem.yaml_text.values import value_of
from coordination.errors import EditConflict
from coordination.models import Coordination, Ecosystem, Plan


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
