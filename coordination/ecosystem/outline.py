"""Which lines of the file each record stands on, so that one of them can be read without the others.

A record's slice begins with the line of its dash and ends before the line of the next one, or where the list ends:
whole lines, with the comments below the record. The first one begins below the name of the list. All positions count characters of the text without byte order mark.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import yaml
from yaml.nodes import MappingNode, Node, SequenceNode

from coordination.ecosystem.yaml_text.lines import alone_before, line_end_text, next_line
from coordination.ecosystem.yaml_text.places import Location
from coordination.ecosystem.yaml_text.splices import entry
from coordination.ecosystem.yaml_text.tree import Tree

LISTS: tuple[Location, ...] = (
    ("repos",),
    ("resources",),
    *(("coordination", section) for section in ("issues", "plans", "todos", "dependencies")),
)
_ALIAS = re.compile(r"\*(?<![^\s\[\]{},:'\"-].)\S")
"""What can be an alias; most often it is a word in *emphasis*."""
_DASH = re.compile(r" *-[ \t]+")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A list in block style: where its first slice begins, how long each is, and the columns of names above and dash."""

    start: int
    lengths: tuple[int, ...]
    columns: tuple[int, ...]

    def spans(self) -> list[int]:
        """Where each slice begins, and where the last one ends."""
        return list(accumulate(self.lengths, initial=self.start))


@dataclass(frozen=True, kw_only=True)
class Outline:
    """The lists of a file whose records can be read alone, and how many parse events the whole file makes."""

    lists: Mapping[Location, Listing]
    events: int
    newline: str


def outline_of(tree: Tree) -> Outline | None:
    """None where an alias anywhere in the file makes one part of it mean what another says."""
    if tree.root is None or (_ALIAS.search(tree.text) and _has_alias(tree.root)):
        return None
    found = ((location, _listing(tree, location)) for location in LISTS)
    lists = {location: listing for location, listing in found if listing is not None}
    return Outline(lists=lists, events=count_events(tree.text), newline=line_end_text(tree.text))


def count_events(text: str) -> int:
    """How many events libyaml's parser makes of a text; raises yaml.YAMLError."""
    parser = yaml.CSafeLoader(text)
    try:
        return int(parser.raw_parse())
    finally:
        parser.dispose()


def _has_alias(root: Node) -> bool:
    """An alias brings a node that stands elsewhere already."""
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
    """Where the lines of the dashes begin; None unless each item begins beside its dash."""
    starts: list[int] = []
    for item in items:
        at = int(item.start_mark.index)
        line = text.rfind("\n", 0, at) + 1
        if text[line + column : line + column + 1] != "-" or not _DASH.fullmatch(text, line, at):
            return None
        starts.append(line)
    return starts


def _stop(text: str, end: int) -> int | None:
    """The mark of a list's end stands where the next thing begins."""
    if end >= len(text):
        return len(text)
    line = text.rfind("\n", 0, end) + 1
    return None if text[line:end].strip(" ") else line
