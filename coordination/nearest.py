"""Did you mean: the one known word that is closest to an unknown one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches

_ID = re.compile(r"([A-Za-z][A-Za-z0-9_-]*?)[-_ ]?(\d+)", re.ASCII)
ENOUGH = 20_000
"""Comparisons for one file: 10,000 ids take 0.1 s each, and a file may name a thousand unknown ones."""


def nearest(word: str, known: Collection[str], *, cutoff: float = 0.6) -> str:
    """The closest of `known`, or nothing. Case, `-`, `_` and blanks count as equal; `cutoff` is how alike they must be.

    Of ids like TODO-001 none is near whose number is another one, be it close: zeros before it, or two digits that
    changed places, are misspelt.
    """
    plain = {_plain(k): k for k in known if _may_be_meant(word, k)}
    found = get_close_matches(_plain(word), plain, n=1, cutoff=cutoff)
    return plain[found[0]] if found else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The closest of `known` as words to append, or nothing."""
    near = nearest(word, tuple(known))
    return f" (did you mean {near!r}?)" if near else ""


def _may_be_meant(word: str, known: str) -> bool:
    given, there = _ID.fullmatch(word), _ID.fullmatch(known)
    if there is None or not there[1].isupper():  # a name
        return True
    return given is not None and _misspelt(given[2].lstrip("0"), there[2].lstrip("0"))


def _misspelt(number: str, other: str) -> bool:
    width = max(len(number), len(other))
    number, other = number.zfill(width), other.zfill(width)
    differ = [i for i in range(width) if number[i] != other[i]]
    match differ:
        case []:
            return True
        case [i, j]:
            return j == i + 1 and (number[i], number[j]) == (other[j], other[i])
        case _:
            return False


def _plain(word: str) -> str:
    return word.lower().replace("-", "_").replace(" ", "_")


class Suggester:
    """`nearest`, until it has cost enough."""

    def __init__(self, comparisons: int = ENOUGH) -> None:
        self._left = comparisons

    def nearest(self, word: str, known: Collection[str]) -> str:
        if self._left <= 0:
            return ""
        self._left -= len(known)
        return nearest(word, known)
