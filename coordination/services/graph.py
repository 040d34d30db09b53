"""The order and the phases of services, by their dependencies; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from graphlib import TopologicalSorter

from coordination.models import Service, Word
from coordination.text import require_known


class Phase(Word):
    """The phases of a start; each begins when the previous one has ended."""

    CORE = "core"
    """Required services, and the services that these depend on."""
    EXTERNAL = "external"
    """The other services."""
    INTEGRATION = "integration"
    """Checks while all services are up."""


def in_order(services: Iterable[Service]) -> tuple[Service, ...]:
    """Return the services, each after its dependencies, otherwise in the order of the file."""
    known = {service.name: service for service in services}
    edges = {name: [one for one in service.depends_on if one in known] for name, service in known.items()}
    dependencies_first = tuple(TopologicalSorter(edges).static_order())
    place: dict[str, int] = {name: number for number, name in enumerate(known)}
    for name in reversed(dependencies_first):  # a dependency comes directly before its first dependent
        for one in edges[name]:
            place[one] = min(place[one], place[name])
    return tuple(known[name] for name in sorted(dependencies_first, key=lambda name: place[name]))


def select(services: Iterable[Service], names: Collection[str]) -> tuple[Service, ...]:
    """Return the services with these names in order; without names, all services. Raises NotFound."""
    ordered = in_order(services)
    known = {service.name for service in ordered}
    require_known(names, known, "service", "service list")
    return tuple(service for service in ordered if not names or service.name in names)


def with_needed(services: Iterable[Service], names: Collection[str]) -> frozenset[str]:
    """Return these services with their direct and indirect dependencies."""
    return _closure({service.name: service.depends_on for service in services}, names)


def with_dependents(services: Iterable[Service], names: Collection[str]) -> frozenset[str]:
    """Return these services with their direct and indirect dependents."""
    found: dict[str, list[str]] = {}
    for service in services:
        for needed in service.depends_on:
            found.setdefault(needed, []).append(service.name)
    return _closure(found, names)


def phase_of(services: Collection[Service]) -> Mapping[str, Phase]:
    """Return service → its phase."""
    core = with_needed(services, [service.name for service in services if service.required])
    return {one.name: Phase.CORE if one.name in core else Phase.EXTERNAL for one in services}


def _closure(edges: Mapping[str, Collection[str]], names: Collection[str]) -> frozenset[str]:
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left.extend(edges.get(name, ()))
    return frozenset(found)
