"""Constraints of several consumers on one provider that no version meets together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from coordination.dependencies.constraints import Allowed, Rules, disjoint, read
from coordination.dependencies.records import Contradiction, Demand
from coordination.dependencies.versions import find_rules
from coordination.errors import UsageError
from coordination.models import Dependency, DependencyStatus

Demanded = tuple[Demand, Allowed]


def contradictions(
    dependencies: Iterable[Dependency], places: Mapping[str, Path | None] | None = None
) -> tuple[Contradiction, ...]:
    """All pairs that contradict each other, by provider; where no pair does and all together do, the fewest that do.

    A constraint that no version at all meets (`>2,<1`) is one by itself, and is not set against others. Equal constraints
    count once, those that cannot be read not at all: the check of each says so. `places` tell each provider's language.
    """
    by_provider: dict[str, list[Dependency]] = {}
    for d in dependencies:
        if d.version_constraint and d.status is not DependencyStatus.DEPRECATED:
            by_provider.setdefault(d.provider, []).append(d)
    return tuple(
        Contradiction(provider=provider, demands=tuple(demand for demand, _ in found))
        for provider, needed in by_provider.items()
        for found in _contradicting(_demands(needed, _rules((places or {}).get(provider))))
    )


def _rules(place: Path | None) -> Rules:
    return find_rules(place) if place is not None else Rules.ANY


def _demands(dependencies: Iterable[Dependency], rules: Rules) -> list[Demanded]:
    found: dict[str, Demanded] = {}
    for d in dependencies:
        constraint = d.version_constraint or ""
        try:
            allowed = read(constraint, rules)
        except UsageError:
            continue
        demand = Demand(id=d.id, consumer=d.consumer, version_constraint=constraint)
        found.setdefault(constraint.replace(" ", ""), (demand, allowed))
    return list(found.values())


def _contradicting(demands: list[Demanded]) -> Iterator[tuple[Demanded, ...]]:
    alone = [demanded for demanded in demands if _no_version([demanded])]
    yield from ((demanded,) for demanded in alone)
    rest = [demanded for demanded in demands if demanded not in alone]
    pairs = [pair for pair in combinations(rest, 2) if _no_version(pair)]
    yield from pairs
    if not pairs and len(rest) > 2 and _no_version(rest):
        yield next(few for size in range(3, len(rest) + 1) for few in combinations(rest, size) if _no_version(few))


def _no_version(demands: Sequence[Demanded]) -> bool:
    return disjoint([allowed for _, allowed in demands])
