"""Splits the output of a program into JSON records and lines of plain text, in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

LONGEST = 8 * 1024 * 1024
"""Bytes of a line. A longer one is dropped."""


@dataclass(frozen=True)
class JsonRecord:
    """A line that is a JSON object."""

    fields: dict[str, Any]


@dataclass(frozen=True)
class TextLine:
    """Any other line, without its end. Bytes that are no UTF-8 are replaced."""

    text: str


@dataclass(frozen=True)
class Note:
    """A part of the output that is missing."""

    text: str


Item = JsonRecord | TextLine | Note
TOO_LONG = Note(f"a line of more than {LONGEST // 1024**2} MiB was dropped")
CUT_OFF = Note("the output ends in the middle of a record")


class Stream:
    """The output of one start of a program. The items do not depend on how it is cut into chunks."""

    def __init__(self) -> None:
        self._held = bytearray()
        """The beginning of a line whose end has not come."""
        self._dropping = False

    def feed(self, data: bytes) -> list[Item]:
        """Take the next bytes; return the items that they complete."""
        return list(self._items(data))

    def end(self) -> list[Item]:
        """Return the item of a last line without an end."""
        rest, self._held = bytes(self._held), bytearray()
        if not rest:
            return []
        item = _item(rest)
        is_part = isinstance(item, TextLine) and item.text.lstrip().startswith("{")
        return [CUT_OFF if is_part else item]

    def _items(self, data: bytes) -> Iterator[Item]:
        begin = 0
        while (end := data.find(b"\n", begin)) >= 0:
            yield from self._hold(data, begin, end)
            if not self._dropping:
                yield _item(bytes(self._held))
            self._held.clear()
            self._dropping = False
            begin = end + 1
        yield from self._hold(data, begin, len(data))

    def _hold(self, data: bytes, begin: int, end: int) -> Iterator[Item]:
        if self._dropping:
            return
        if len(self._held) + end - begin > LONGEST:
            self._held.clear()
            self._dropping = True
            yield TOO_LONG
        else:
            self._held += memoryview(data)[begin:end]


def _item(line: bytes) -> Item:
    text = line.removesuffix(b"\r").decode(errors="replace")
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):  # no JSON, a number of too many digits, nested too deep
            found = None
        if isinstance(found, dict):
            return JsonRecord(found)
    return TextLine(text)
