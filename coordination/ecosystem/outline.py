"""Lines of each record in the file, so that a record can be parsed without the others.

A record's slice starts with the line of its dash and ends before the line of the next dash, or at the end of
the list: whole lines, with the comments below the record. The first slice starts below the name of the list.
All positions count characters of the text without byte order mark.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import yaml
from yaml.nodes import MappingNode, Node, SequenceNode

from coordination.ecosystem.yaml_text.lines import alone_before, entry, line_end_text, next_line
from coordination.ecosystem.yaml_text.places import Location
from coordination.ecosystem.yaml_text.tree import Tree

LISTS: tuple[Location, ...] = (
    ("repos",),
    ("resources",),
    *(("coordination", section) for section in ("issues", "plans", "todos", "dependencies")),
)
_ALIAS = re.compile(r"\*(?<![^\s\[\]{},:'\"-].)\S")
"""Possible alias; most matches are words in *emphasis*."""
_DASH = re.compile(r" *-[ \t]+")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A list in block style: the start of its first slice, the length of each slice, and the columns of its
    names and dash.
    """

    start: int
    lengths: tuple[int, ...]
    columns: tuple[int, ...]

    def spans(self) -> list[int]:
        """Return the start of each slice, followed by the end of the last one."""
        return list(accumulate(self.lengths, initial=self.start))


@dataclass(frozen=True, kw_only=True)
class Outline:
    """Lists of a file whose records can be parsed alone, and the number of parse events of the whole file."""

    lists: Mapping[Location, Listing]
    events: int
    newline: str


def outline_of(tree: Tree) -> Outline | None:
    """Return the outline; None if the file has an alias, which makes one part depend on another."""
    if tree.root is None or (_ALIAS.search(tree.text) and _has_alias(tree.root)):
        return None
    found = ((location, _listing(tree, location)) for location in LISTS)
    lists = {location: listing for location, listing in found if listing is not None}
    return Outline(lists=lists, events=count_events(tree.text), newline=line_end_text(tree.text))


def count_events(text: str) -> int:
    """Return the number of events that libyaml's parser emits for a text. Raises yaml.YAMLError."""
    parser = yaml.CSafeLoader(text)
    try:
        return int(parser.raw_parse())
    finally:
        parser.dispose()


def _has_alias(root: Node) -> bool:
    """Return whether a node occurs twice in the tree, as an aliased node does."""
    seen: set[int] = set()
    pending = [root]
    while pending:
        node = pending.pop()
        if id(node) in seen:
            return True
        seen.add(id(node))
        if isinstance(node, SequenceNode):
            pending += node.value
        elif isinstance(node, MappingNode):
            pending += [part for pair in node.value for part in pair]
    return False


def _listing(tree: Tree, location: Location) -> Listing | None:
    node, columns = tree.root, []
    text, below = tree.text, 0
    for step in location:
        found = entry(node, str(step)) if isinstance(node, MappingNode) and not node.flow_style else None
        if found is None or not alone_before(text, int(found.key.start_mark.index)):
            return None
        columns.append(int(found.key.start_mark.column))
        below = next_line(text, int(found.key.end_mark.index))
        node = found.value
    if not isinstance(node, SequenceNode) or node.flow_style or not node.value:
        return None
    column = int(node.start_mark.column)
    starts = _starts(text, node.value, column)
    stop = _stop(text, int(node.end_mark.index))
    if starts is None or stop is None or not below <= starts[0]:
        return None
    edges = [below, *starts[1:], stop]
    lengths = tuple(b - a for a, b in pairwise(edges))
    return Listing(start=below, lengths=lengths, columns=(*columns, column))


def _starts(text: str, items: Sequence[Node], column: int) -> list[int] | None:
    """Return the starts of the dashes' lines; None unless each item starts on the line of its dash."""
    starts: list[int] = []
    for item in items:
        at = int(item.start_mark.index)
        line = text.rfind("\n", 0, at) + 1
        if text[line + column : line + column + 1] != "-" or not _DASH.fullmatch(text, line, at):
            return None
        starts.append(line)
    return starts


def _stop(text: str, end: int) -> int | None:
    """Return the start of the line after the list; None if other text precedes it on that line. The node's
    end mark is where the next token starts.
    """
    if end >= len(text):
        return len(text)
    line = text.rfind("\n", 0, end) + 1
    return None if text[line:end].strip(" ") else line
