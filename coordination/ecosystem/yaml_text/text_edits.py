"""Small edits of YAML text: positions of values, and the few characters that must change.

All other text keeps its bytes, so comments, order, quoting and blank lines stay. The caller verifies that the
result has the intended values (`ecosystem/revision.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from coordination.errors import EditConflict


@dataclass(frozen=True, kw_only=True)
class TextEdit:
    """Replacement of the characters `start` to `end` by `text`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A name and its value in a mapping."""

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
    """Return whether the value is an alias, whose node was written earlier in the text."""
    return bool(value.start_mark.index < after)


def is_shared(text: str, after: int, value: Node) -> bool:
    """Return whether other places of the file may refer to the value: an alias, or a value with an anchor or
    a tag.
    """
    start = int(value.start_mark.index)
    return is_alias(after, value) or text[start : start + 1] in ("&", "!")


def apply(text: str, edits: Iterable[TextEdit]) -> str:
    """Apply all edits at once; several insertions at one position keep their order."""
    parts: list[str] = []
    done = 0
    for edit in sorted(edits, key=lambda s: (s.start, s.end)):
        parts += [text[done : edit.start], edit.text]
        done = edit.end
    return "".join([*parts, text[done:]])


def entry(mapping: Node, name: str) -> Entry | None:
    """Return the mapping's own entry of that name; entries that come through `<<` do not count."""
    for key, value in mapping.value if isinstance(mapping, MappingNode) else ():
        if isinstance(key, ScalarNode) and key.value == name:
            return Entry(key=key, value=value)
    return None


def item(root: Node | None, *location: str | int) -> MappingNode:
    """Return the mapping at that location. Raises EditConflict if it is not written there itself."""
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
    """Return whether the mapping is written as in JSON, with all names in double quotes."""
    return bool(mapping.flow_style) and all(quote_of(key) == '"' for key, _ in mapping.value)


def quote_of(node: Node) -> str:
    """Return the quotes of a scalar: `'`, `"` or ""."""
    return node.style if isinstance(node, ScalarNode) and node.style in ("'", '"') else ""
