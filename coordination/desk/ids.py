"""The next free id: one more than the highest number in use, in the prefix and the width that the file uses.

Never from a count: after a deletion a count gives an id that exists. What is only referred to counts as in use, because
whoever refers to it means something else than the record that is being written.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable

_NUMBERED = re.compile(r"(.*?)(\d+)")


def next_id(own: Iterable[str], taken: Collection[str], first: str) -> str:
    """`own` are the ids of the kind, in the file's order; `taken` is whatever must not be given again."""
    numbered = [match for name in own if (match := _NUMBERED.fullmatch(name))]
    prefix = _prefix(match[1] for match in numbered) if numbered else _NUMBERED.fullmatch(first)[1]  # type: ignore[index]
    digits = [match[2] for name in (*taken, *own) if (match := _NUMBERED.fullmatch(name)) and match[1] == prefix]
    highest = max(digits, key=int, default="")
    if not highest:
        return first
    return f"{prefix}{int(highest) + 1:0{len(highest)}d}"


def _prefix(prefixes: Iterable[str]) -> str:
    """The most frequent; of equals the one that was used last."""
    counts = Counter(list(prefixes)[::-1])
    return counts.most_common(1)[0][0]
