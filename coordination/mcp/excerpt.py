"""A piece of a log that fits into an answer; where it is cut is said in it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """`text` begins with a line that says what is left out before it, if anything is, and ends with one if more follows."""

    run_id: str
    todo: str | None
    text: str
    offset: int
    """Of the first character of the log that is in `text`."""
    end: int
    """Of the first one that is not any more: where to go on."""
    total: int
    """As long as the log is now."""


def excerpt(run_id: str, todo: str | None, pieces: Iterable[str], *, limit: int, offset: int | None) -> Excerpt:
    """From `offset` on, or the end; of an end that is cut, the first line is a whole one where that is near."""
    log = "".join(pieces)
    start = _tail(log, limit) if offset is None else min(offset, len(log))
    end = min(start + limit, len(log))
    before = f"[coord] {start} characters before this: offset=0\n" if start else ""
    after = f"\n[coord] {len(log) - end} characters after this: offset={end}\n" if end < len(log) else ""
    text = before + log[start:end] + after
    return Excerpt(run_id=run_id, todo=todo, text=text, offset=start, end=end, total=len(log))


def _tail(log: str, limit: int) -> int:
    start = max(0, len(log) - limit)
    if start == 0 or log[start - 1] == "\n":
        return start
    line = log.find("\n", start, start + limit // 2)
    return start if line < 0 else line + 1
