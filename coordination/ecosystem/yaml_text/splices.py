"""Small changes to YAML text: where a value stands, and the few characters that must change.

Nothing else is rendered anew, so comments, order, quoting and blank lines stay. Whether the result means what was meant
is proved by whoever applies it (`ecosystem/revision.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from coordination.errors import EditConflict


@dataclass(frozen=True, kw_only=True)
class TextEdit:
    """Characters `start` to `end` of the text become `text`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A name and its value as they stand in a mapping."""

    key: Node
    value: Node

    @property
    def is_alias(self) -> bool:
        return is_alias(int(self.key.end_mark.index), self.value)

    @property
    def quote(self) -> str:
        return quote_of(self.value)

    @property
    def start(self) -> int:
        return int(self.value.start_mark.index)

    @property
    def end(self) -> int:
        return int(self.value.end_mark.index)


def is_alias(after: int, value: Node) -> bool:
    """An alias brings the node that it stands for, which was written earlier."""
    return bool(value.start_mark.index < after)


def is_shared(text: str, after: int, value: Node) -> bool:
    """An alias, or what has an anchor or a tag: other places of the file may take it over."""
    start = int(value.start_mark.index)
    return is_alias(after, value) or text[start : start + 1] in ("&", "!")


def apply(text: str, splices: Iterable[TextEdit]) -> str:
    """All changes at once; several insertions at one place keep their order."""
    parts: list[str] = []
    done = 0
    for splice in sorted(splices, key=lambda s: (s.start, s.end)):
        parts += [text[done : splice.start], splice.text]
        done = splice.end
    return "".join([*parts, text[done:]])


def entry(mapping: Node, name: str) -> Entry | None:
    """The entry that the mapping itself has of that name; one that comes through `<<` is none."""
    for key, value in mapping.value if isinstance(mapping, MappingNode) else ():
        if isinstance(key, ScalarNode) and key.value == name:
            return Entry(key=key, value=value)
    return None


def item(root: Node | None, *location: str | int) -> MappingNode:
    """The mapping at that location; raises EditConflict where it does not stand there itself."""
    node = root
    for step in location:
        if isinstance(step, int) and isinstance(node, SequenceNode):
            node = node.value[step]
        else:
            found = entry(node, str(step)) if node else None
            node = found.value if found and not found.is_alias else None
    if not isinstance(node, MappingNode):
        place = ".".join(map(str, location))
        raise EditConflict(f"{place} is written through an alias or '<<'", "write it out there and try again")
    return node


def like_json(mapping: MappingNode) -> bool:
    """Whether the mapping is written as JSON writes it, where all text is in double quotes."""
    return bool(mapping.flow_style) and all(quote_of(key) == '"' for key, _ in mapping.value)


def quote_of(node: Node) -> str:
    """What it stands in: `'`, `"` or nothing."""
    return node.style if isinstance(node, ScalarNode) and node.style in ("'", '"') else ""
