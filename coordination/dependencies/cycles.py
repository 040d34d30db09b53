"""Repositories that need each other in a ring."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from coordination.cycles import cycle_through
from coordination.dependencies.records import Cycle
from coordination.models import Dependency, DependencyStatus, DependencyType

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
