r"""Prevent text from other people and programs from controlling the terminal: all output passes through here.

A title, a log or an error may hold sequences that move the cursor, set the window's title, write to the
clipboard (OSC 52) or change the direction of text. They are spelled out (`\u001b]52;…`), in a pipe or file
too, because somebody will print that. In JSON the spelling is an escape with the same value. Data that a
program must get unchanged is printed inside `exact`.
"""

from __future__ import annotations

import codecs
import io
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import StrEnum
from io import TextIOWrapper
from typing import BinaryIO, TextIO, cast

CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
"""Content of a regular expression's character class: C0 and C1 controls without tab and newline, direction
marks, and separators of lines and paragraphs.
"""
_CONTROL = re.compile(f"[{CONTROLS}]")
_OBEYED = re.compile(f"(?P<colour>\x1b\\[(?P<codes>[0-9;:]*)m)|\r\n|[{CONTROLS}]")
_OUR_CODES = re.compile(r"(?:(?:[0-4]|22|3[1-7]|39|9[1-7])(?:;|$))*")
"""Bold, dim, italic, underlined and all text colours but black, so that no text can be hidden."""
_RGB = r"\d{1,3}[;:]\d{1,3}[;:]\d{1,3}"
_COLOUR = rf"[0-4]?|7|2[1-4]|27|[34][0-79]|9[0-7]|10[0-7]|[34]8[;:](?:5[;:]\d{{1,3}}|2[;:]:?{_RGB})"
_COLOURS = re.compile(f"(?:{_COLOUR})(?:;(?:{_COLOUR}))*")
"""Any colour, bold, dim, italic, underlined, reversed, and their ends; no blinking or concealed text."""
_UNFINISHED = re.compile("(?:\x1b(?:\\[[0-9;:]{0,64})?|\r)\\Z")


class Lets(StrEnum):
    """Control sequences that are passed on to the terminal."""

    NOTHING = "nothing"
    OURS = "ours"
    """Colours that coord itself uses."""
    COLOURS = "colours"
    """All colours, for logs."""
    ALL = "all"

    def allows(self, codes: str) -> bool:
        """Return whether a colour sequence with these codes is passed on."""
        known = {Lets.OURS: _OUR_CODES, Lets.COLOURS: _COLOURS}.get(self)
        return known is not None and known.fullmatch(codes) is not None


def spelled(text: str, lets: Lets = Lets.NOTHING) -> str:
    """Return the text with control characters spelled out, except those that `lets` allows."""
    if lets is Lets.ALL or not _CONTROL.search(text):  # 5 ms/MB; the substitution takes 80 ms
        return text

    def written_out(found: re.Match[str]) -> str:
        if found[0] == "\r\n":
            return "\n"
        if found["colour"] and lets.allows(found["codes"]):
            return found[0]
        return f"\\u{ord(found[0][0]):04x}{found[0][1:]}"

    return _OBEYED.sub(written_out, text)


class SafeOutput(io.BufferedIOBase):
    """Filter for the bytes below a text stream. A sequence that arrives in two pieces is held back until it
    is complete.
    """

    def __init__(self, below: BinaryIO, encoding: str, owner: object = None) -> None:
        """`owner`: the stream of `below`, which would close it if nobody else used it."""
        self.below = below
        self._owner = owner
        self.lets = Lets.OURS
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("backslashreplace")
        self._held = ""

    def write(self, data: object) -> int:
        chunk = bytes(cast(bytes, data))
        self._put(self._held + self._decoder.decode(chunk), more=True)
        return len(chunk)

    def _put(self, text: str, *, more: bool) -> None:
        cut = found.start() if more and (found := _UNFINISHED.search(text)) else len(text)
        self._held = text[cut:]
        self.below.write(spelled(text[:cut], self.lets).encode(self._encoding, "backslashreplace"))

    def flush(self) -> None:
        self.below.flush()

    def close(self) -> None:
        """Write the held text, but leave the underlying stream open, because this object does not own it."""
        if not (self.closed or self.below.closed):
            self._put(self._held, more=False)
            self.flush()
        super().close()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self.below.isatty()

    def fileno(self) -> int:
        return self.below.fileno()


def protect() -> None:
    """Filter what this process prints, and replace characters that the locale cannot encode."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, TextIOWrapper) and not isinstance(stream.buffer, SafeOutput):
            setattr(sys, name, _protected(stream))


def _protected(stream: TextIOWrapper) -> TextIO:
    encoding = codecs.lookup(stream.encoding).name
    if encoding == "ascii":  # the C locale; click writes UTF-8 there, too
        stream.reconfigure(encoding="utf-8")
    if stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")
    stream.flush()
    below = SafeOutput(cast(BinaryIO, stream.buffer), stream.encoding, owner=stream)
    by_line = stream.isatty() or stream is sys.stderr
    return TextIOWrapper(cast(BinaryIO, below), stream.encoding, stream.errors, line_buffering=by_line)


@contextmanager
def letting(stream: TextIO, lets: Lets) -> Iterator[None]:
    """Allow these control sequences inside the `with` block; on a terminal reset colours at its end."""
    below = getattr(stream, "buffer", None)
    if not isinstance(below, SafeOutput):
        yield
        return
    stream.flush()
    before, below.lets = below.lets, lets
    try:
        yield
    finally:
        stream.write("\x1b[0m" if lets is not Lets.NOTHING and stream.isatty() else "")
        stream.flush()
        below.lets = before


def exact(stream: TextIO) -> AbstractContextManager[None]:
    """Let data pass unchanged to a pipe or file inside the `with` block; a terminal stays protected."""
    return nullcontext() if stream.isatty() else letting(stream, Lets.ALL)


def driven(stream: TextIO) -> TextIO:
    """Return the unfiltered terminal, for a progress bar that moves the cursor. Its text must be `spelled`
    first.
    """
    below = getattr(stream, "buffer", None)
    if not isinstance(below, SafeOutput) or not below.isatty():
        return stream
    return TextIOWrapper(cast(BinaryIO, _Open(below)), stream.encoding, stream.errors, line_buffering=True)


class _Open(SafeOutput):
    def __init__(self, safe: SafeOutput) -> None:
        super().__init__(safe.below, safe._encoding)
        self.lets = Lets.ALL
