"""A graph of levels, for everybody the same: each todo comes after three of the level above, drawn once."""

from __future__ import annotations

import random
from collections.abc import Mapping

SEED, AFTER = 7, 3


def layered(levels: int, width: int) -> Mapping[str, list[str]]:
    """Name → the names before it; predecessors stand first."""
    dice = random.Random(SEED)
    above: list[str] = []
    found: dict[str, list[str]] = {}
    for level in range(levels):
        names = [f"t{level}-{i}" for i in range(width)]
        for name in names:
            found[name] = dice.sample(above, min(AFTER, len(above)))
        above = names
    return found
