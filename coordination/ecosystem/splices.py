"""Small changes to YAML text: where a value stands, and the few characters that must change.

Nothing is rendered anew, so comments, order, quoting and blank lines of everything else stay. What cannot be changed
safely (a value that is an alias, has an anchor, or is written as a block) is refused with EditConflict; whether the
result means what was meant is proved by whoever applies it (`editing.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from coordination.errors import EditConflict

_BREAK = re.compile("\r\n|[\n\r\x85\N{LINE SEPARATOR}\N{PARAGRAPH SEPARATOR}]")
"""What ends a line, and with it a comment, in YAML 1.1."""


@dataclass(frozen=True, kw_only=True)
class Splice:
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
        """An alias brings the node that it stands for, which was written earlier."""
        return bool(self.value.start_mark.index < self.key.end_mark.index)

    @property
    def quote(self) -> str:
        """What the value stands in: `'`, `"` or nothing."""
        return _quote(self.value)

    @property
    def start(self) -> int:
        return int(self.value.start_mark.index)

    @property
    def end(self) -> int:
        return int(self.value.end_mark.index)


def apply(text: str, splices: Iterable[Splice]) -> str:
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


def replace(text: str, old: Entry, value: str) -> Splice:
    """Another value in the old one's quotes. `value` is a plain scalar that needs no escape."""
    line = old.key.start_mark.line + 1
    source = text[old.start : old.end]
    if old.is_alias or source[:1] in ("&", "!") or not isinstance(old.value, ScalarNode):
        raise EditConflict(
            f"line {line}: {old.key.value} has an anchor, an alias or a tag", "write the value out there"
        )
    if old.value.style in ("|", ">"):
        raise EditConflict(f"line {line}: {old.key.value} is written as a block", "write the value on its name's line")
    gap = " " if not source and text[old.start - 1 : old.start] == ":" else ""
    return Splice(start=old.start, end=old.end, text=f"{gap}{old.quote}{value}{old.quote}")


def insert(text: str, mapping: MappingNode, name: str, value: str, beside: Iterable[str]) -> Splice:
    """A new entry after the first of `beside` that it can follow, else after any, in the mapping's own style.

    `value` is written as it is; `like_json` tells whether it must stand in quotes.
    """
    found = (entry(mapping, other) for other in (*beside, *(key.value for key, _ in mapping.value)))
    sibling = next((e for e in found if e is not None and _can_be_followed(text, e)), None)
    if sibling is None:
        line = mapping.start_mark.line + 1
        raise EditConflict(f"line {line}: there is no place for {name} beside the other fields", f"write {name} there")
    if mapping.flow_style:
        return _insert_in_flow(text, sibling, name, value)
    return _insert_line(text, sibling, name, value)


def like_json(mapping: MappingNode) -> bool:
    """Whether the mapping is written as JSON writes it, where all text is in double quotes."""
    return bool(mapping.flow_style) and all(_quote(key) == '"' for key, _ in mapping.value)


def _can_be_followed(text: str, sibling: Entry) -> bool:
    """Of collections and blocks the marks tell where the next thing begins, not where they end."""
    value = sibling.value
    plain = isinstance(value, ScalarNode) and value.style not in ("|", ">")
    return plain and not sibling.is_alias and sibling.start < sibling.end


def _insert_in_flow(text: str, sibling: Entry, name: str, value: str) -> Splice:
    return Splice(start=sibling.end, end=sibling.end, text=f", {_like(sibling.key, name)}: {value}")


def _insert_line(text: str, sibling: Entry, name: str, value: str) -> Splice:
    """After the sibling's line and the comment on it, as far to the right, with the same kind of line end."""
    line = " " * sibling.key.start_mark.column + f"{_like(sibling.key, name)}: {value}"
    line_end = _BREAK.search(text, sibling.end)
    if line_end is None:
        other = _BREAK.search(text)
        return Splice(start=len(text), end=len(text), text=(other.group() if other else "\n") + line)
    return Splice(start=line_end.end(), end=line_end.end(), text=line + line_end.group())


def _like(key: Node, name: str) -> str:
    return f"{_quote(key)}{name}{_quote(key)}"


def _quote(node: Node) -> str:
    return node.style if isinstance(node, ScalarNode) and node.style in ("'", '"') else ""
