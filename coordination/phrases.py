"""Names and numbers in a sentence for people."""

from __future__ import annotations

import re
from collections.abc import Collection

NAMES_SHOWN = 10
_CONSONANT_Y = re.compile("[^aeiou]y$")
_HISSES = ("s", "x", "z", "ch", "sh")


def listed(names: Collection[str]) -> str:
    """A long list is cut, and says so."""
    shown = ", ".join(list(names)[:NAMES_SHOWN])
    return f"{shown} and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else shown


def counted(number: int, noun: str) -> str:
    """`1 todo`, `12 todos`, `12 repositories`, `12 days`, `12 branches`"""
    if number == 1:
        return f"1 {noun}"
    if _CONSONANT_Y.search(noun):
        return f"{number:,} {noun[:-1]}ies"
    return f"{number:,} {noun}{'es' if noun.endswith(_HISSES) else 's'}"
