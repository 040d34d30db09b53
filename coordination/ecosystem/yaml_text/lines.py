"""Ends of nodes and of their lines in YAML text: PyYAML's marks only tell where the next token begins.

All positions count characters of the text. A line end is any that YAML 1.1 knows. Lines are looked up in an
index of the text, because a file that json.dump wrote is one line, and searching its ends at each value is
quadratic.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from coordination.errors import EditConflict

BREAKS = "\n\r\x85\N{LINE SEPARATOR}\N{PARAGRAPH SEPARATOR}"
BREAK = re.compile(f"\r\n|[{BREAKS}]")
_GAP = rf"(?:[ \t]+|[{BREAKS}]|#[^{BREAKS}]*)*"
"""Blanks, line ends and comments."""
_GAP_HERE = re.compile(_GAP)
_ALIAS = re.compile(rf"{_GAP}[-:,]?{_GAP}\*[\w-]+")
_HEADER = re.compile(r"[|>][-+0-9]*")
_COMMENT_OR_BLANK = re.compile(rf"[ \t]*(?:#[^{BREAKS}]*)?")


def line_end_text(text: str) -> str:
    """Return the first line end of this text; a newline if it has none."""
    match = BREAK.search(text)
    return match.group() if match else "\n"


@lru_cache(maxsize=8)
def _index(text: str) -> tuple[array[int], array[int]]:
    """Return the start of each line, and the end of its characters."""
    starts, stops = array("q", [0]), array("q")
    for found in BREAK.finditer(text):
        stops.append(found.start())
        starts.append(found.end())
    stops.append(len(text))
    return starts, stops


def _line_at(text: str, at: int) -> int:
    """Return the number of the line at the position; a line end belongs to the line that it ends."""
    return bisect_right(_index(text)[0], at) - 1


def line_start(text: str, at: int) -> int:
    return _index(text)[0][_line_at(text, at)]


def line_stop(text: str, at: int) -> int:
    """Return the end of the line's characters, before its line end."""
    return max(_index(text)[1][_line_at(text, at)], at)


def next_line(text: str, at: int) -> int:
    """Return the start of the next line, or the end of the text."""
    starts, _ = _index(text)
    following = _line_at(text, at) + 1
    return starts[following] if following < len(starts) else len(text)


def line_before(text: str, start: int) -> int:
    """Return the start of the line before the one that starts at `start`, which must not be 0."""
    start -= 2 if text[start - 2 : start] == "\r\n" else 1
    return line_start(text, start)


def gap_end(text: str, at: int) -> int:
    """Return the position of the next character that is neither blank nor comment."""
    match = _GAP_HERE.match(text, at)
    return match.end() if match else at


def is_blank(text: str, start: int) -> bool:
    return not text[start : line_stop(text, start)].strip(" \t")


def comment_column(text: str, start: int) -> int | None:
    """Return the column of a comment that has a line to itself; None for any other line."""
    line = text[start : line_stop(text, start)]
    bare = line.lstrip(" \t")
    return len(line) - len(bare) if bare.startswith("#") else None


def blank_above(text: str, at: int) -> bool:
    """Return whether a blank line precedes the line at `at` and the comment lines directly above it."""
    start = line_start(text, at)
    while start:
        start = line_before(text, start)
        if comment_column(text, start) is None:
            return is_blank(text, start)
    return False


def rest_is_blank(text: str, at: int) -> bool:
    """Return whether only blanks and a comment follow on the line."""
    match = _COMMENT_OR_BLANK.match(text, at)
    return match is None or match.end() == len(text) or text[match.end()] in BREAKS


def alone_before(text: str, at: int) -> bool:
    """Return whether only blanks precede the position on its line."""
    while at and text[at - 1] in " \t":
        at -= 1
    return at == 0 or text[at - 1] in BREAKS


def content_end(text: str, node: Node) -> int:
    """Return the position after the node's last significant character."""
    if isinstance(node, ScalarNode):
        return _block_end(text, node) if node.style in ("|", ">") else int(node.end_mark.index)
    if not isinstance(node, CollectionNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    if isinstance(node, MappingNode):
        return value_end(text, *node.value[-1])
    assert isinstance(node, SequenceNode)
    return item_ends(text, node)[-1]


def value_end(text: str, key: Node, value: Node) -> int:
    """Return the end of an entry of a mapping."""
    key_end = int(key.end_mark.index)
    if is_alias(key_end, value):
        return _alias_end(text, key_end)
    if isinstance(value, ScalarNode) and value.start_mark.index == value.end_mark.index:
        colon = gap_end(text, key_end)
        return colon + 1 if text[colon : colon + 1] == ":" else key_end
    return content_end(text, value)


def item_ends(text: str, sequence: SequenceNode) -> list[int]:
    """Return the end of each item of a list; in a block list only the last item's end is searched in the
    text.
    """
    ends: list[int] = []
    before = int(sequence.start_mark.index)
    for i, item in enumerate(sequence.value):
        if is_alias(before, item):
            ends.append(
                _alias_end(
                    text, ends[-1] if ends else gap_end(text, before + 1 if sequence.flow_style else before)
                )
            )
            continue
        before = int(item.end_mark.index)
        last = i == len(sequence.value) - 1 or is_alias(before, sequence.value[i + 1])
        ends.append(content_end(text, item) if last or sequence.flow_style else before)
    return ends


def _alias_end(text: str, after: int) -> int:
    match = _ALIAS.match(text, after)
    return match.end() if match else after


def _block_end(text: str, scalar: ScalarNode) -> int:
    """Return the end of the last line; trailing blank lines count only with `|+`."""
    start, end = int(scalar.start_mark.index), int(scalar.end_mark.index)
    if keeps_blank_lines(text, scalar):
        return line_stop(text, line_before(text, end)) if text[end - 1] in BREAKS else end
    lines = list(_lines(text, start, end))
    while len(lines) > 1 and not text[lines[-1][0] : lines[-1][1]].strip(" "):
        lines.pop()
    return lines[-1][1]


def _lines(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end:
        stop = min(line_stop(text, start), end)
        yield start, stop
        start = next_line(text, start)


def last_scalar(node: Node) -> Node:
    """Return the last scalar of a list or mapping in block style."""
    while isinstance(node, CollectionNode) and not node.flow_style and node.value:
        node = node.value[-1][1] if isinstance(node, MappingNode) else node.value[-1]
    return node


def block_header(text: str, node: Node) -> str:
    """Return the header (`|`, `>-`, `|2+` …) of the block at the node's end, or ""."""
    last = last_scalar(node)
    if not isinstance(last, ScalarNode) or last.style not in ("|", ">"):
        return ""
    match = _HEADER.match(text, int(last.start_mark.index))
    return match.group() if match else ""


def keeps_blank_lines(text: str, node: Node) -> bool:
    """Return whether the node ends in a block whose trailing blank lines are part of the value."""
    return "+" in block_header(text, node)


def after_comments(text: str, start: int, column: int) -> int:
    """Return the position after comment lines indented further than the column, and after blank lines between
    them.
    """
    end = start
    while start < len(text):
        if (comment := comment_column(text, start)) is not None and comment > column:
            end = next_line(text, start)
        elif not is_blank(text, start):
            break
        start = next_line(text, start)
    return end


def dash(text: str, sequence: SequenceNode, at: int) -> int:
    """Return the position of an item's dash. Raises EditConflict if other text precedes it on the line."""
    if at == 0 and text[sequence.start_mark.index] == "-":
        position = int(sequence.start_mark.index)
    else:
        position = _dash_before(text, int(sequence.value[at].start_mark.index))
    if not alone_before(text, position):
        line = sequence.start_mark.line + 1
        raise EditConflict(
            f"line {line}: a list begins in the middle of a line", "begin it on a line of its own"
        )
    return position


def _dash_before(text: str, at: int) -> int:
    """Return the position of the dash above the item; there may be comments between them."""
    start = line_start(text, at)
    before = text[start:at]
    while not before.lstrip(" ").startswith("-"):
        before_start = line_start(text, start - 1)
        before, start = text[before_start : start - 1], before_start
    return start + len(before) - len(before.lstrip(" "))


def below(text: str, above: Node, end: int, column: int, lines: list[str]) -> list[TextEdit]:
    """Insert whole lines after the line on which `above` ends and the further indented comments after it.

    A file without a final line end stays so, except after a block, whose text depends on it.
    """
    newline = line_end_text(text)
    start = after_comments(text, next_line(text, end), column)
    if start < len(text) or text[start - 1] in BREAKS:
        return [TextEdit(start=start, end=start, text="".join(line + newline for line in lines))]
    closing = newline if any(line.endswith(("|", ">")) for line in lines) else ""
    added = TextEdit(start=start, end=start, text="".join(newline + line for line in lines) + closing)
    return [*_keep_block_text(text, above, start), added]


def _keep_block_text(text: str, node: Node, end: int) -> Iterator[TextEdit]:
    """Yield the edit that keeps the text of a block at the end of the file, which had no final line end,
    unchanged.
    """
    header = block_header(text, node)
    last = last_scalar(node)
    if header and "-" not in header and last.end_mark.index == end:
        start = int(last.start_mark.index)
        yield TextEdit(start=start, end=start + len(header), text=header.replace("+", "") + "-")


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
    copied = 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        parts += [text[copied : edit.start], edit.text]
        copied = edit.end
    return "".join([*parts, text[copied:]])


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
            child = entry(node, str(step)) if node else None
            node = child.value if child and not child.is_alias else None
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
