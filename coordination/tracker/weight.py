"""How much open work stands behind each open record, to the end of every chain.

A plan is passed through and not counted: it waits for each of its todos anyway.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from coordination.models import Plan
from coordination.tracker.records import Holding
from coordination.tracker.ties import Relations


class Weights:
    """One bit for each record in a set of what stands behind: of 10,000 records that is 12 MB and 0.1 s.

    What lies on a cycle, or before one, has no set.
    """

    def __init__(self, ties: Relations) -> None:
        self._ties = ties
        self._behind = {name: _open_behind(ties, name) for name in ties.items if ties.is_open(name)}
        self._bit = {name: 1 << i for i, name in enumerate(self._behind)}
        self._sets = _sets(self._behind, self._bit)

    def heaviest(self, count: int) -> tuple[Holding, ...]:
        """Of equals those that the file has first."""
        plans = ~self._mask(name for name in self._behind if isinstance(self._ties.items[name], Plan))
        weights = {name: self._weight(name, plans) for name in self._behind}
        found = sorted((name for name in weights if weights[name]), key=lambda name: -weights[name])[:count]
        return tuple(Holding(work=self._ties.tie(name), holds_up=weights[name]) for name in found)

    def holding(self, names: Collection[str], wanted: Collection[str]) -> list[str]:
        """Those of `names` behind which one of `wanted` stands, or might where that is not known."""
        mask = self._mask(wanted)
        return [name for name in names if name not in self._sets or self._sets[name] & mask]

    def _weight(self, name: str, counted: int) -> int:
        known = self._sets.get(name)
        return ((self._mask(self._behind[name]) if known is None else known) & counted).bit_count()

    def _mask(self, names: Iterable[str]) -> int:
        mask = 0
        for name in names:
            mask |= self._bit.get(name, 0)
        return mask


def _open_behind(ties: Relations, name: str) -> tuple[str, ...]:
    return tuple(other for other in ties.behind.get(name, ()) if ties.is_open(other))


def _sets(behind: Mapping[str, tuple[str, ...]], bit: Mapping[str, int]) -> dict[str, int]:
    """From the ends of all chains backwards (Kahn 1962)."""
    waiting = {name: len(set(others)) for name, others in behind.items()}
    before: dict[str, set[str]] = {name: set() for name in behind}
    for name, others in behind.items():
        for other in others:
            before[other].add(name)
    sets: dict[str, int] = {}
    ahead = [name for name, left in waiting.items() if not left]
    while ahead:
        name = ahead.pop()
        sets[name] = 0
        for other in behind[name]:
            sets[name] |= sets[other] | bit[other]
        for other in before[name]:
            waiting[other] -= 1
            if not waiting[other]:
                ahead.append(other)
    return sets
