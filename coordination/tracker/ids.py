"""The next free id: one more than the highest number in use, in the prefix and the width that the file uses.

Never from a count: after a deletion a count gives an id that exists. What is only referred to counts as in use, because
whoever refers to it means something else than the record that is being written.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

_NUMBERED = re.compile(r"(.*?)(\d+)")


class Numbering:
    """Of one kind of records. `own` are its ids in the file's order, `taken` is whatever must not be given."""

    def __init__(self, own: Sequence[str], taken: Iterable[str], first: str) -> None:
        numbered = _numbered(own)
        prefix = _usual(prefix for prefix, _ in numbered) if numbered else _numbered([first])[0][0]
        digits = [digits for other, digits in (*numbered, *_numbered(taken)) if other == prefix]
        highest = max(digits, key=lambda text: (int(text), len(text)), default="")
        self._prefix = prefix
        self._width = len(highest or _numbered([first])[0][1])
        self._number = int(highest or 0)

    def next(self, taken: Collection[str] = ()) -> str:
        """`taken` is what has been given by hand since."""
        while True:
            self._number += 1
            name = f"{self._prefix}{self._number:0{self._width}d}"
            if name not in taken:
                return name


def _numbered(names: Iterable[str]) -> list[tuple[str, str]]:
    return [(match[1], match[2]) for name in names if (match := _NUMBERED.fullmatch(name))]


def _usual(prefixes: Iterable[str]) -> str:
    """The most frequent; of equals the one that was used last."""
    return Counter(list(prefixes)[::-1]).most_common(1)[0][0]
