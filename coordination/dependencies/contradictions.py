"""Requirements that cannot all be met: constraints on one provider that no version meets, and repositories that need each other in a cycle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from pathlib import Path

from coordination.cycles import cycle_through
from coordination.dependencies.constraints import Allowed, Rules, disjoint, read
from coordination.dependencies.records import Contradiction, Cycle, Demand
from coordination.dependencies.versions import find_rules
from coordination.errors import UsageError
from coordination.models import Dependency, DependencyStatus, DependencyType

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


AT_RUN_TIME = frozenset({DependencyType.RUNTIME, DependencyType.MCP})


def cycles(dependencies: Iterable[Dependency]) -> tuple[Cycle, ...]:
    """So many of the shortest that every repository on a cycle stands in one; first those at run time.

    A cycle that is closed only by a development, test or documentation dependency is told apart. What is deprecated
    counts no more.
    """
    alive = [d for d in dependencies if d.status is not DependencyStatus.DEPRECATED]
    at_run_time = list(_rings([d for d in alive if d.type in AT_RUN_TIME]))
    told = {frozenset(cycle.repos) for cycle in at_run_time}
    others = (cycle for cycle in _rings(alive) if frozenset(cycle.repos) not in told)
    return (*at_run_time, *others)


def _rings(dependencies: list[Dependency]) -> Iterator[Cycle]:
    steps: dict[tuple[str, str], Dependency] = {}
    after: dict[str, set[str]] = {}
    for d in dependencies:
        known = steps.get((d.consumer, d.provider))
        if known is None or (d.type in AT_RUN_TIME and known.type not in AT_RUN_TIME):
            steps[d.consumer, d.provider] = d
        after.setdefault(d.consumer, set()).add(d.provider)
        after.setdefault(d.provider, set())
    named: set[str] = set()
    for repo in after:
        if repo not in named and (ring := cycle_through(repo, after)):
            named.update(ring)
            yield _cycle(tuple(ring), [steps[step] for step in pairwise(ring)])


def _cycle(ring: tuple[str, ...], steps: list[Dependency]) -> Cycle:
    return Cycle(
        repos=ring,
        dependencies=tuple(d.id for d in steps),
        types=tuple(d.type for d in steps),
        at_run_time=all(d.type in AT_RUN_TIME for d in steps),
    )
