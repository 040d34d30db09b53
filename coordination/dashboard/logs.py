"""The log of a todo on a page: sections of attempts, numbered lines, colours, the first line of an error.

A part of a log begins at the start of a line and has whole lines. The last line of a growing log may be
unfinished; it is shown, and the next part begins with it. Positions name a piece of the log and the
characters from there to the end of that piece, so they stay true when Redis drops older pieces.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from markupsafe import Markup

from coordination.dashboard.pages import COLOUR, Colours, plain
from coordination.text import shortened

LOG_SHOWN, LINES_SHOWN = 200_000, 5000
"""Characters and lines of the end of a log that a page shows."""
ADDED, LINES_ADDED = 8000, 150
"""Characters and lines that an open page adds at once. To a log of 6,500 lines, 500 lines took the
browser 55 to 170 ms, in which it stutters; 150 take less than 50.
"""
LINE_SHOWN = 10_000
"""Characters of a line that a page shows."""
KEPT = 4_000_000
"""Characters of the end of a log that are kept for pages."""
PIECES = 100_000
_POSITION = re.compile(r"([0-9]{1,15})-([0-9]{1,15})-([0-9]{1,9})")
FIRST_ERROR = re.compile(
    r"(?<![\w./-])(?:(?i:error|fatal|panic)(?![\w/-]|\.\w)|FAIL(?:ED)?\b|Traceback \(most recent call last\))"
    r"|(?<=[A-Za-z])(?:Error|Exception): "
)
"""A line that matches is an error: `error`, `fatal` or `panic` as a word, in any case; `FAIL` or `FAILED` in
capitals; `Traceback (most recent call last)`; a name such as `ValueError: `.
"""


class Piece(Protocol):
    """A part of a log that one attempt has written; it may begin and end anywhere in a line."""

    @property
    def at(self) -> tuple[int, int]: ...
    @property
    def attempt(self) -> int: ...
    @property
    def text(self) -> str: ...


@dataclass(frozen=True)
class Log:
    """A log as one text. Each attempt begins at the start of a line."""

    text: str
    attempts: Sequence[tuple[int, int]]
    """Start and number of each attempt that has written, in the order of the text."""
    ends: Sequence[int]
    pieces: Sequence[tuple[int, int]]
    """End and id of each piece."""
    left_out: int = 0
    """Number of lines before the text."""

    @cached_property
    def raw(self) -> str:
        """Return all of it as text without colours; other control sequences are spelled out."""
        return plain(COLOUR.sub("", self.text), longest=None)

    def offset(self, position: str) -> int:
        """Return the offset of a position; that of the next piece if its own is gone."""
        found = _POSITION.fullmatch(position)
        if found is None:
            return 0
        piece, rest = (int(found[1]), int(found[2])), int(found[3])
        n = bisect_left(self.pieces, piece)
        if n == len(self.pieces):
            return len(self.text)
        start = self.ends[n - 1] if n else 0
        return max(start, self.ends[n] - rest) if self.pieces[n] == piece else start

    def position(self, offset: int) -> str:
        """Return the position of an offset, empty before the first piece."""
        if not self.pieces:
            return ""
        n = min(bisect_left(self.ends, offset), len(self.ends) - 1)
        first, second = self.pieces[n]
        return f"{first}-{second}-{self.ends[n] - offset}"

    def number(self, offset: int) -> int:
        """Return the number of the line that begins at an offset."""
        return self.left_out + self.text.count("\n", 0, offset) + 1


def log_of(pieces: Iterable[Piece]) -> Log:
    """Return the log of these pieces; of a long one the end."""
    kept, size, left_out = deque[Piece](), 0, 0
    for piece in pieces:
        kept.append(piece)
        size += len(piece.text)
        while size > KEPT or len(kept) > PIECES:
            first = kept.popleft()
            size -= len(first.text)
            left_out += first.text.count("\n")
    texts, ends, attempts, end = list[str](), list[int](), list[tuple[int, int]](), 0
    for piece in kept:
        if not attempts or piece.attempt != attempts[-1][1]:
            # Its text begins with the end of an unfinished line of the attempt before.
            in_line = bool(attempts) and not texts[-1].endswith("\n")
            attempts.append((end + in_line, piece.attempt))
        texts.append(piece.text)
        end += len(piece.text)
        ends.append(end)
    return Log("".join(texts), attempts, ends, [piece.at for piece in kept], left_out)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Lines of one attempt."""

    attempt: int
    lines: Markup
    begun: Markup
    """The unfinished last line of a growing log."""
    first: int
    number: int
    """Numbers of the first line, and of the line after the finished ones."""
    end: int
    """Offset after the finished lines."""
    error: int
    """Number of the first line of the attempt that is an error, 0 without one."""


def shown(log: Log, *, grows: bool) -> list[Part]:
    """Return the end of a log, attempt by attempt. `grows`: its last line may be unfinished."""
    start = max(0, len(log.text) - LOG_SHOWN)
    start = log.text.rfind("\n", 0, start) + 1
    lines = log.text[start:].rsplit("\n", LINES_SHOWN)
    start += len(lines[0]) + 1 if len(lines) > LINES_SHOWN else 0
    number, parts = log.number(start), list[Part]()
    for (begin, attempt), end in zip(log.attempts, _ends(log), strict=True):
        if end > start or end == len(log.text):
            last = end == len(log.text)
            one = _part(log, begin, max(start, begin), end, attempt, number, grows=grows and last)
            parts.append(one)
            number = one.number
    return parts


def added(log: Log, offset: int, number: int, *, grows: bool, error: int = 0) -> Part:
    """Return lines of the attempt at an offset from there on. `number`: of the first of them; `error`: of the
    first error of this attempt if the page shows it already.
    """
    starts = [begin for begin, _ in log.attempts]
    n = max(0, bisect_left(starts, offset + 1) - 1)
    begin, attempt = log.attempts[n] if starts else (0, 0)
    end = _ends(log)[n] if starts else 0
    if end - offset > ADDED:
        end = _line_end(log.text, offset + ADDED, end)
    for count, line in enumerate(re.finditer("\n", log.text[offset:end]), 1):
        if count == LINES_ADDED:
            end = offset + line.end()
            break
    grows = grows and end == len(log.text)
    return _part(log, begin, offset, end, attempt, number, grows=grows, error=error)


def _line_end(text: str, offset: int, end: int) -> int:
    found = text.find("\n", offset, end)
    return end if found < 0 else found + 1


def _ends(log: Log) -> list[int]:
    return [*(begin for begin, _ in log.attempts[1:]), len(log.text)] if log.attempts else []


def _part(
    log: Log,
    begin: int,
    start: int,
    end: int,
    attempt: int,
    number: int,
    *,
    grows: bool,
    error: int = 0,
) -> Part:
    """Return the lines between two offsets. `begin`: start of their attempt; `number`: of the first line."""
    colours = Colours.after(log.text[max(begin, start - LOG_SHOWN) : start])
    *whole, rest = log.text[start:end].split("\n")
    if rest and not grows:
        whole, rest = [*whole, rest], ""
    lines, first = list[str](), number
    for line in whole:
        if not error and FIRST_ERROR.search(COLOUR.sub("", line[:LINE_SHOWN])):
            error = number
        lines.append(_line(number, line, colours, error=error == number))
        number += 1
    return Part(
        attempt=attempt,
        lines=Markup("".join(lines)),  # noqa: S704 (each line is escaped)
        begun=Markup(_line(number, rest, colours, error=False) if rest else ""),  # noqa: S704 (it is escaped)
        first=first,
        number=number,
        end=end - len(rest),
        error=error,
    )


def _line(number: int, text: str, colours: Colours, *, error: bool) -> str:
    content = "".join(colours.shown(shortened(text.removesuffix("\r"), LINE_SHOWN)))
    kind, link = "line error" if error else "line", f'<a href="#L{number}" tabindex="-1">{number}</a>'
    return f'<span class="{kind}" id="L{number}">{link}{content}\n</span>'
