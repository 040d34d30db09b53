"""The pieces in which a log is kept: none is large, whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterator

LOG_LIMIT_BYTES = 1024 * 1024
PIECE_BYTES = 64 * 1024
PIECES_OF_TAIL = 8
"""So many pieces at least: a tail is deleted piece by piece, and what is kept of it is the more exact."""


def piece_bytes(tail_bytes: int) -> int:
    return max(1, min(PIECE_BYTES, tail_bytes // PIECES_OF_TAIL))


def pieces_of(text: str, skipped: int, half: int) -> Iterator[tuple[str, int]]:
    """Cut a text into pieces, each with the bytes that are left out before it; of a long text the middle is left out."""
    data = text.encode(errors="replace")
    size = piece_bytes(half)
    if len(data) <= size:
        yield text, skipped
        return
    left_out = max(0, len(data) - 2 * half)
    head, tail = (data[:half], data[half + left_out :]) if left_out else (data, b"")
    for part, before in ((head, skipped), (tail, left_out)):
        for start in range(0, len(part), size):
            piece = part[start : start + size].decode(errors="replace")
            yield piece, before if start == 0 else 0


def shown(text: str) -> str:
    """Return the piece, cut where it is longer than any that coord writes: others can write to Redis, too."""
    if len(text) <= 2 * PIECE_BYTES:
        return text
    left_out = len(text) - 2 * PIECE_BYTES
    return f"{text[:PIECE_BYTES]}{gap(left_out)}{text[-PIECE_BYTES:]}"


def gap(size: int, file: str = "", *, mid_line: bool = True) -> str:
    """Return the line that stands where something was left out."""
    where = f"; all of it is in {file}" if file else ""
    return f"{chr(10) if mid_line else ''}[coord] {size:,} bytes left out here{where}\n"
