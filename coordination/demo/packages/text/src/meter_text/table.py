"""Columns that are as wide as their widest cell."""

from enum import Enum
from typing import Optional


class Align(str, Enum):
    """To which side of its column a cell goes, as the format language writes it."""

    LEFT = "<"
    RIGHT = ">"


def shorten(text: str, width: Optional[int] = None) -> str:
    """Cut to `width` characters, the last of them a full stop that shows the cut."""
    if width is None or len(text) <= width:
        return text
    return text[: width - 1] + "."


def table(rows, aligns, width: Optional[int] = None) -> str:
    """Lay out rows of cells, the first row as the head; no cell is wider than `width`."""
    cells = [[shorten(f"{cell}", width) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*cells)]
    rule = ["-" * each for each in widths]
    lines = [_line(row, aligns, widths) for row in (cells[0], rule, *cells[1:])]
    return "\n".join(lines)


def _line(row, aligns, widths) -> str:
    fitted = (f"{cell:{align.value}{width}}" for cell, align, width in zip(row, aligns, widths))
    return "  ".join(fitted).rstrip()
