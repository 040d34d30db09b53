"""Convert the chapter of the commands to the man page coord(1), in the macros of man(7).

setup.py does this when it builds a wheel, where nothing else of coord can be imported; `make man` does it for
this user.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

CHAPTER = Path(__file__).with_name("commands.md")
HEAD = r"""
.\" Made from docs/commands.md.
.TH COORD 1 "" coord "User Commands"
.SH NAME
coord \- execute plans of dependent todos across many git repositories
.SH SYNOPSIS
.B coord
[OPTIONS] COMMAND [ARGUMENTS]
.br
.B coord
[OPTIONS] NOUN VERB [ARGUMENTS]
.SH DESCRIPTION
"""
LAST_SECTIONS = {
    "ENVIRONMENT": (
        "A setting NAME of ecosystem.yaml is also read from COORD_NAME, in capitals: coord help settings."
    ),
    "EXIT STATUS": "0 for success; the others are listed by: coord help exit-codes.",
    "SEE ALSO": "coord help, coord help CHAPTER, git(1), less(1)",
}
_BLOCK = re.compile(r"^```text\n(?P<text>.*?)\n```$|(?P<line>[^\n]+(?:\n(?!\* |```|#)[^\n]+)*)", re.M | re.S)
_OPTION = re.compile(r"\* `([^`]+)`(?:: (.*))?")
_LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")


def page(chapter: str) -> str:
    """Return the page for the text of the chapter."""
    sections = (f".SH {heading}\n{escaped(text)}" for heading, text in LAST_SECTIONS.items())
    return "\n".join([HEAD.strip(), *_body(chapter), *sections]) + "\n"


def _body(chapter: str) -> Iterator[str]:
    named = False
    for block in _BLOCK.finditer(chapter):
        text, line = block["text"], " ".join((block["line"] or "").split())
        if text is not None:
            yield (
                f".SS {escaped(text)}"
                if named
                else "\n".join([".nf", *map(escaped, text.split("\n")), ".fi"])
            )
        elif line.startswith("## "):
            yield f".SH {_plain(line[3:]).upper()}"
        elif option := _OPTION.fullmatch(line):
            yield f".TP\n\\fB{escaped(option[1])}\\fR\n{_plain(option[2] or '')}"
        elif not line.startswith(("#", "<!--")):
            yield f".PP\n{_plain(line)}"
        named = line.startswith("### ")


def _plain(text: str) -> str:
    return escaped(_LINK.sub(r"\1", text).replace("`", ""))


def escaped(text: str) -> str:
    r"""Return text that roff prints as it is: a backslash, a hyphen that people copy, quotes that groff would
    turn into typographic ones, and a dot or quote at the beginning of a line, which would be a request.
    """
    for plain, written in (
        ("\\", r"\e"),
        ("-", r"\-"),
        ("'", r"\(aq"),
        ('"', r"\(dq"),
        ("`", r"\(ga"),
        ("^", r"\(ha"),
        ("~", r"\(ti"),
    ):
        text = text.replace(plain, written)
    text = "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in text)
    return f"\\&{text}" if text.startswith(".") else text


if __name__ == "__main__":
    sys.stdout.write(page(CHAPTER.read_text(encoding="utf-8")))
