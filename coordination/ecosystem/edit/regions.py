"""What goes with an item or a field that is taken out: the comments that are about it, and one of two gaps."""

from __future__ import annotations

from yaml.nodes import Node, SequenceNode

from coordination.ecosystem.yaml_text.lines import (
    comment_column,
    content_end,
    dash,
    is_blank,
    keeps_blank_lines,
    line_before,
    line_start,
    next_line,
)
from coordination.ecosystem.yaml_text.splices import TextEdit


def without_items(text: str, sequence: SequenceNode, first: int, last: int) -> TextEdit:
    """A block list without some items, the comments further in below them, and those directly above at the dash.

    What stands above the first item of the list stays: it may be about the list.
    """
    at = dash(text, sequence, first)
    start = line_start(text, at)
    column = at - start
    stop = next_line(text, content_end(text, sequence.value[last]))
    while stop < len(text) and (comment_column(text, stop) or 0) > column:
        stop = next_line(text, stop)
    while first and start and comment_column(text, line_before(text, start)) == column:
        start = line_before(text, start)
    above = sequence.value[first - 1] if first else None
    return without_lines(text, start, stop, above, is_last=last == len(sequence.value) - 1)


def without_lines(text: str, start: int, stop: int, above: Node | None, *, is_last: bool) -> TextEdit:
    """The text without some lines, and the blank lines above or below them: between two things the wider gap stays.

    Above the first of all and below the last the gap stays that belongs to what is around. Below a block that takes
    blank lines for its own (`|+`) none may come to stand.
    """
    heading = start > 0 and comment_column(text, line_before(text, start)) is not None
    top, bottom = _blanks_above(text, start), _blanks_below(text, stop)
    keeps = above is not None and keeps_blank_lines(text, above)
    is_first = above is None and not heading
    if keeps or is_first or (not is_last and _count(text, top, start) >= _count(text, stop, bottom)):
        return TextEdit(start=start, end=bottom, text="")
    return TextEdit(start=top, end=stop, text="")


def _blanks_above(text: str, start: int) -> int:
    while start and is_blank(text, line_before(text, start)):
        start = line_before(text, start)
    return start


def _blanks_below(text: str, stop: int) -> int:
    while stop < len(text) and is_blank(text, stop):
        stop = next_line(text, stop)
    return stop


def _count(text: str, start: int, end: int) -> int:
    lines = 0
    while start < end:
        start, lines = next_line(text, start), lines + 1
    return lines
