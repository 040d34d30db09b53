"""Values as YAML text: of several notations, the first that reads as the same value.

ruamel.yaml lays out mappings and lists of mappings. Scalars are rendered here, because the file is read as
YAML 1.1, where more words are numbers, dates and booleans than for ruamel.yaml.
"""

from __future__ import annotations

import datetime
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import yaml

from coordination.ecosystem.yaml_text.tree import COLLECTION, PLAIN, TEXT, plain_value

DATES = frozenset({"created", "updated", "target", "due"})
"""Fields that hold dates as text, which needs no quotes there."""
STEP = 2
"""Indentation of a block if the file shows none."""
WIDTH = 120
_SHORT_WORDS, _SHORT = 3, 30
"""Words and characters up to which a text is short."""
_UNSEEN = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
"""Characters that JSON leaves unescaped and YAML does not allow."""
_UNFIT = re.compile(f"[\n\r\t]|{_UNSEEN.pattern}")
"""Characters that one line can hold only in double quotes, escaped."""


class _Reader(yaml.CSafeLoader):
    def resolve(self, kind: type, value: object, implicit: object) -> str:
        if kind is not yaml.ScalarNode:
            return COLLECTION
        return PLAIN if implicit[0] else TEXT  # type: ignore[index]


def reads_as(source: str, value: object, *, flow: bool, date: bool = False) -> bool:
    """Return whether the source, written after a name, is one scalar with that value."""
    reader = _Reader("")
    try:
        reader = _Reader("{k: %s}" % source if flow else f"k: {source}")  # noqa: UP031 - braces
        node = reader.get_single_node()
    except yaml.YAMLError:
        return False
    finally:
        reader.dispose()
    entries = node.value if isinstance(node, yaml.MappingNode) else []
    if len(entries) != 1 or not isinstance(entries[0][1], yaml.ScalarNode):
        return False
    found = entries[0][1]
    try:
        read = plain_value(found.value) if found.tag == PLAIN else found.value
    except ValueError:  # 2026-02-30
        return False
    if date and isinstance(read, datetime.date):
        return bool(found.value == value)
    return type(read) is type(value) and bool(read == value or read != read)


def double_quoted(value: str) -> str:
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def like_json(value: Any) -> str:
    """Return the value on one line in JSON's notation."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{double_quoted(name)}: {like_json(v)}" for name, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(like_json, value)) + "]"
    return double_quoted(value) if isinstance(value, str) else number(value)


def number(value: float | bool | None) -> str:
    """Return a number in plain digits; very large or small ones with an exponent, and a point, which YAML 1.1
    requires.
    """
    if value is None or isinstance(value, bool | int):
        return json.dumps(value)
    if value != value or abs(value) == float("inf"):
        return ".nan" if value != value else ".inf" if value > 0 else "-.inf"
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    if 1e-9 <= abs(value) < 1e15:
        return f"{Decimal(repr(value)):f}"
    digits, mark, exponent = repr(value).partition("e")
    return digits + ("" if "." in digits else ".0") + mark + exponent


def scalar(value: Any, *, flow: bool, quote: str = "", date: bool = False) -> str:
    """Return a value on one line in the given quotes if possible; with empty quotes, as plain text if
    possible.
    """
    if not isinstance(value, str):
        return number(value)
    other = '"' if quote == "" and not ('"' in value or "\\" in value) else "'"
    for candidate in dict.fromkeys((quote, other)):
        source = _in_quotes(value, candidate)
        if not _UNFIT.search(value) and reads_as(source, value, flow=flow, date=date):
            return source
    return double_quoted(value)


def _in_quotes(value: str, quote: str) -> str:
    if quote == '"':
        return double_quoted(value)
    return "'" + value.replace("'", "''") + "'" if quote else value


def literal(value: str, column: int, style: str = "|", width: int = WIDTH) -> tuple[str, list[str]] | None:
    """Return the header and the lines of a block scalar with this text; None if no block can hold it.

    A folded block is broken at single spaces before `width`.
    """
    body = value.rstrip("\n")
    chomp = "-" if body == value else "" if value == body + "\n" and body else "+"
    lines = body.split("\n") if body else []
    lines += [""] * (len(value) - len(body) - 1)
    if style == ">":
        lines = list(_folded(lines, width - column))
    header = style + chomp
    indent = " " * column
    source = header + "\n" + "\n".join(indent + line if line else "" for line in lines) + "\n"
    if not body or not column or not reads_as(source, value, flow=False):
        return None
    return header, [indent + line if line else "" for line in lines]


def _folded(lines: list[str], width: int) -> Iterator[str]:
    """Yield the lines of a folded block; the first line end after text is read as a space, so one more is
    added.
    """
    for i, line in enumerate(lines):
        if i and lines[i - 1] and any(lines[i:]):
            yield ""
        while len(line) > width and (cut := _cut(line, width)):
            yield line[:cut]
            line = line[cut + 1 :]
        yield line


def _cut(line: str, width: int) -> int:
    """Return the position of the last single space before the width, else of the first after it."""
    spaces = [found.start() for found in re.finditer(r"(?<=\S) (?=\S)", line)]
    return max((at for at in spaces if at <= width), default=min(spaces, default=0))


def flow(value: Any, *, quote: str = "") -> str:
    """Return a collection on one line in brackets, or a scalar."""
    if isinstance(value, dict):
        inner = ", ".join(f"{scalar(name, flow=True)}: {flow(v, quote=quote)}" for name, v in value.items())
        return "{" + inner + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(v, quote=quote) for v in value) + "]"
    return scalar(value, flow=True, quote=quote)


def are_short(values: Iterable[Any]) -> bool:
    """Return whether a list of the values reads well on one line: words, no sentences."""
    texts = [
        value if isinstance(value, str) else number(value)
        for value in values
        if not isinstance(value, dict | list)
    ]
    wordy = any(len(text.split()) > _SHORT_WORDS or len(text) > _SHORT or "\n" in text for text in texts)
    return (
        len(texts) == len(list(values))
        and not wordy
        and sum(map(len, texts)) + 2 * len(texts) <= WIDTH - STEP * 6
    )


def block(value: Any) -> list[str]:
    """Return the lines of a mapping or a list in block style, without indentation."""
    from ruamel.yaml import YAML  # takes 75 ms, and most edits do not need it

    writer = YAML()
    writer.width = 10**9
    writer.allow_unicode = True
    writer.indent(mapping=STEP, sequence=2 * STEP, offset=STEP)
    writer.Representer = _representer()
    stream = io.StringIO()
    outermost = _styled(value)
    outermost.fa.set_block_style()
    writer.dump(outermost, stream)
    lines = stream.getvalue().removesuffix("\n").split("\n")
    return [line.removeprefix(" " * STEP) for line in lines] if isinstance(value, list) else lines


def _representer() -> type:
    from ruamel.yaml.representer import RoundTripRepresenter

    class Representer(RoundTripRepresenter):
        def represent_float(self, value: float) -> Any:
            written = number(value)
            kind = "int" if written.lstrip("-").isdecimal() else "float"
            return self.represent_scalar(f"tag:yaml.org,2002:{kind}", written)

    Representer.add_representer(float, Representer.represent_float)
    return Representer


def _styled(value: Any) -> Any:
    """Return the value in the types that tell ruamel.yaml the style of each part."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

    if isinstance(value, dict):
        styled = CommentedMap({_styled(name): _styled(v) for name, v in value.items()})
        if not value:
            styled.fa.set_flow_style()
        return styled
    if isinstance(value, list | tuple):
        items = CommentedSeq(map(_styled, value))
        if are_short(list(value)):
            items.fa.set_flow_style()
        return items
    if not isinstance(value, str):
        return value
    if "\n" in value and (block_text := literal(value, STEP)) and "+" not in block_text[0]:
        return LiteralScalarString(value)
    return value if scalar(value, flow=True) == value else DoubleQuotedScalarString(value)


@dataclass(frozen=True, kw_only=True)
class Style:
    """Style of one field's value."""

    column: int
    """Column of the field's name."""
    flow: bool = False
    json: bool = False
    quote: str = ""
    date: bool = False
    block: str = ""
    """`|` or `>` if text is written as a block even when it fits on one line."""
    lines: bool = True
    """Allow a block for text of several lines."""
    keeps: bool = False
    """Allow a block that includes the blank lines after it (`|+`)."""
    inner: int
    """Column of the lines of a block."""
    width: int = WIDTH
    brackets: bool = False
    """Prefer brackets for a list or mapping."""
    dashes: bool = False
    """Prefer one line per item for a list."""

    def for_another(self, value: Any) -> Style:
        """Return the style for the same field of another record, where text that fits on one line needs no
        block.
        """
        fits = isinstance(value, str) and "\n" not in value and len(value) + self.inner <= self.width
        return replace(self, block="" if fits else self.block, keeps=False)

    def on_one_line(self) -> Style:
        """Return a style that writes text of several lines with escapes."""
        return replace(self, lines=False)

    @property
    def may_be_lines(self) -> bool:
        return self.lines and not self.flow and self.quote != '"'

    @property
    def deeper(self) -> int:
        """Return the column of lines that must be indented further than the name; those of a list need not
        be.
        """
        return self.inner if self.inner > self.column else self.column + STEP


@dataclass(frozen=True, kw_only=True)
class RenderedValue:
    """A rendered value: the text after the name, and the lines below it."""

    head: str
    lines: tuple[str, ...] = ()

    def lines_after(self, name: str) -> list[str]:
        return [f"{name}: {self.head}".rstrip(" "), *self.lines]

    @property
    def is_literal(self) -> bool:
        return bool(self.lines) and bool(self.head)


def write(value: Any, style: Style) -> RenderedValue:
    """Render the value in that style."""
    if style.json:
        return RenderedValue(head=like_json(value))
    if isinstance(value, dict | list | tuple):
        return _write_collection(value, style)
    if isinstance(value, str) and (style.block or ("\n" in value and style.may_be_lines)):
        for block_style in dict.fromkeys((_block_style(value, style), "|")):
            block = literal(value, style.deeper, block_style, style.width)
            if block and (style.keeps or "+" not in block[0]):
                return RenderedValue(head=block[0], lines=tuple(block[1]))
    return RenderedValue(head=scalar(value, flow=style.flow, quote=style.quote, date=style.date))


def _block_style(value: str, style: Style) -> str:
    """Return the block style; a folded block would need two blank lines for each blank line of the text."""
    return "|" if "\n\n" in value.rstrip("\n") else style.block or "|"


def _write_collection(value: Any, style: Style) -> RenderedValue:
    short = not isinstance(value, dict) and not style.dashes and are_short(list(value))
    if style.flow or style.brackets or not value or short:
        return RenderedValue(head=flow(value))
    lines = block(value)
    column = style.deeper if isinstance(value, dict) else style.inner
    return RenderedValue(head="", lines=tuple(" " * column + line if line else line for line in lines))
