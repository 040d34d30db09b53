"""Did you mean: the one known word that is closest to an unknown one."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

ENOUGH = 20_000
"""Comparisons for one file: 10,000 ids take 0.1 s each, and a file may name a thousand unknown ones."""


def nearest(word: str, known: Collection[str], *, cutoff: float = 0.6) -> str:
    """The closest of `known`, or nothing. Case, `-`, `_` and blanks count as equal; `cutoff` is how alike they must be."""
    plain = {_plain(k): k for k in known}
    found = get_close_matches(_plain(word), plain, n=1, cutoff=cutoff)
    return plain[found[0]] if found else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The closest of `known` as words to append, or nothing."""
    near = nearest(word, tuple(known))
    return f" (did you mean {near!r}?)" if near else ""


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
