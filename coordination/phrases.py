"""Names and numbers in a sentence for people."""

from __future__ import annotations

from collections.abc import Collection

NAMES_SHOWN = 10


def listed(names: Collection[str]) -> str:
    """A long list is cut, and says so."""
    shown = ", ".join(list(names)[:NAMES_SHOWN])
    return f"{shown} and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else shown


def counted(number: int, noun: str) -> str:
    """`1 todo`, `12 todos`, `12 repositories`"""
    several = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else several}"
