"""The figures of all parts of one ecosystem, as `Coord.stats` returns them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypedDict

from coordination.api import messages

if TYPE_CHECKING:
    from coordination.api.coord import Coord

Figures = Mapping[str, Any]


class Statistics(TypedDict):
    """Figures at this moment, and counters since the creation of the namespace, by part."""

    manager: Figures
    """`repos`: the number of repositories; `issues`, `plans`, `todos`, `dependencies`: records by status in the
    file.
    """
    todos: Figures
    """`by_status`: as views show them, joined with live runs; `ready`, `blocked`: their numbers; `in_runs`: todos
    of live runs by state.
    """
    runs: Figures
    """`live` by status, `todos` of live runs by state, `leases`, `queues` and `workers` by repository, and all
    `counters`: runs and todos by outcome, lost leases, retries.
    """
    locks: Figures
    """`held`, `waiting`."""
    resources: Mapping[str, Figures]
    """Each resource: capacity, in use, waiting, and how long requests waited."""
    breakers: Figures
    """Circuit breakers by state."""
    messages: Figures
    """Inboxes, waiting messages, dead letters."""
    cache: Figures
    """Hits, misses, hit rate, evictions, entries, bytes."""


def statistics(coord: Coord) -> Statistics:
    """Read the figures of all parts. Raises InvalidFile, Unreachable."""
    with coord.reached():
        locks = coord.locks.stats()
        inboxes, breakers = messages.figures(coord.messages), coord.breakers.stats()
        cache, runs = coord.cache.stats().model_dump(), coord.runs.stats()
    return Statistics(
        manager=_declared(coord),
        todos=_todos(coord, runs["todos"]),
        runs=runs,
        locks={"held": locks.held, "waiting": locks.waiting},
        resources={name: asdict(stats) for name, stats in locks.resources.items()},
        breakers=breakers,
        messages=inboxes,
        cache=cache,
    )


def _declared(coord: Coord) -> Figures:
    ecosystem = coord.document.ecosystem
    counts = {
        name: dict(Counter(str(record["status"]) for record in records))
        for name, records in ecosystem.coordination.model_dump(mode="json").items()
        if isinstance(records, list)
    }
    return {"repos": len(ecosystem.repos), **counts}


def _todos(coord: Coord, in_runs: Mapping[str, int]) -> Figures:
    status = coord.manager.get_ecosystem_status()
    return {
        "by_status": status.counts["todos"],
        "ready": len(status.ready),
        "blocked": len(status.blocked),
        "in_runs": in_runs,
    }
