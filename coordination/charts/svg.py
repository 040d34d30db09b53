"""SVG output: elements, fitted text and the colours of states. Pure.

Pictures have their own background, light or dark as the reader's system, and are shown by browsers as files
and inside pages.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from html import escape  # xml.sax.saxutils imports an HTTP client, in 15 ms

from coordination.states import Tone
from coordination.terminal import CONTROLS

MADE_BY = "<!-- drawn by coord -->"
"""Second line of each picture, by which coord recognises its own files."""
_NOT_SHOWN = re.compile(f"[{CONTROLS}\ud800-\udfff\ufffe\uffff]")
"""Characters that XML does not allow or that change the direction of text."""
WIDE, MIDDLE, NARROW = 1.0, 0.66, 0.56
"""Approximate widths of characters in units of the font size, because the font is unknown."""

FILLS = {
    Tone.NEUTRAL: ("#e5e7eb", "#6b7280"),
    Tone.ACTIVE: ("#bfdbfe", "#2563eb"),
    Tone.GOOD: ("#bbf7d0", "#16a34a"),
    Tone.GIVEN: ("#a5f3fc", "#0891b2"),
    Tone.BAD: ("#fecaca", "#dc2626"),
    Tone.HELD: ("#fef3c7", "#d97706"),
    Tone.LEFT: ("#f3f4f6", "#9ca3af"),
    Tone.BACK: ("#e9d5ff", "#9333ea"),
}
"""Fill and stroke colours by tone, light enough for dark text on either background."""
_STYLE = """
text { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", Helvetica, Arial, sans-serif; }
text { font-size: 12px; fill: #111827; }
.bg { fill: #ffffff; } .out { fill: #374151; } .faint { fill: #6b7280; } .in { fill: #111827; }
.h { font-size: 16px; font-weight: 600; } .b { font-weight: 600; } .s { font-size: 11px; }
.xs { font-size: 10px; } .edge { fill: none; stroke: #94a3b8; stroke-width: 1.2; } .tip { fill: #94a3b8; }
.grid { stroke: #e5e7eb; stroke-width: 1; } .way { fill: none; stroke: #111827; stroke-width: 2.6; }
.waytip { fill: #111827; } .band { fill: #f9fafb; }
@media (prefers-color-scheme: dark) {
.bg { fill: #0f172a; } .out, .h { fill: #e5e7eb; } .faint { fill: #9ca3af; } .edge { stroke: #64748b; }
.tip { fill: #64748b; }
.grid { stroke: #1f2937; } .way { stroke: #f9fafb; } .waytip { fill: #f9fafb; } .band { fill: #111c33; } }
"""


OF_THE_PATH = (
    ".path { stroke: #111827; stroke-width: 2.4; } @media (prefers-color-scheme: dark) { .path { stroke: "
    "#f9fafb; } }"
)
"""Style of boxes and bars on the critical path, in addition to the state's class."""


def element(name: str, *content: str, **attributes: object) -> str:
    """Return an element. `class_` becomes `class`, `marker_end` becomes `marker-end`; None omits an
    attribute; content is markup.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_format_number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{''.join(content)}</{name}>" if content else f"<{name}{written}/>"


def text(content: str, x: float, y: float, class_: str, anchor: str | None = None) -> str:
    return element("text", safe(content), x=x, y=y, class_=class_, text_anchor=anchor)


def hover(content: str) -> str:
    """Return a tooltip."""
    return element("title", safe(content))


def safe(content: str) -> str:
    """Return the escaped text with unprintable characters replaced."""
    return escape(_NOT_SHOWN.sub("\ufffd", content), quote=False)


def fitted(content: str, width: float, size: float = 12) -> str:
    """Return the text on one line, cut with an ellipsis at the width."""
    line = " ".join(content.split())
    if width_of(line, size) <= width:
        return line
    room, kept = width - size * WIDE, 0.0
    for i, character in enumerate(line):
        kept += _width(character) * size
        if kept > room:
            return f"{line[:i].rstrip()}…"
    return line


def width_of(content: str, size: float = 12) -> float:
    return sum(map(_width, content)) * size


def _width(character: str) -> float:
    if unicodedata.east_asian_width(character) in "WF" or character in "MW@%":
        return WIDE
    return MIDDLE if character.isupper() or character.isdigit() else NARROW


def document(width: float, height: float, title: str, body: Iterable[str]) -> str:
    """Return a whole SVG file; `title` is its accessible name."""
    fills = "".join(f".{name} {{ fill: {fill}; stroke: {edge}; }} " for name, (fill, edge) in FILLS.items())
    fills += OF_THE_PATH
    size = {
        "width": width,
        "height": height,
        "viewBox": f"0 0 {_format_number(width)} {_format_number(height)}",
    }
    parts = [
        hover(title),
        element("style", _STYLE + fills),
        element("rect", x=0, y=0, width=width, height=height, class_="bg"),
        *body,
    ]
    svg = element("svg", "\n", "\n".join(parts), "\n", xmlns="http://www.w3.org/2000/svg", **size, role="img")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{MADE_BY}\n{svg}\n'


def _format_number(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
