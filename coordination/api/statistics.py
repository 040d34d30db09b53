"""The figures of all parts of one ecosystem, as `Coord.stats` returns them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from coordination.models import Ecosystem
    from coordination.tracker.records import EcosystemStatus

Figures = Mapping[str, Any]


class Statistics(TypedDict):
    """Figures at this moment, and counters since the creation of the namespace, by part."""

    manager: Figures
    """`repos`: the number of repositories; `issues`, `plans`, `todos`, `dependencies`: records by status in
    the
    file.
    """
    todos: Figures
    """`by_status`: as views show them, joined with live runs; `ready`, `blocked`: their numbers; `in_runs`:
    todos of live runs by state.
    """
    runs: Figures
    """`live` by status, `todos` of live runs by state, `leases`, `queues` and `workers` by repository, and
    all `counters`: runs and todos by outcome, lost leases, retries.
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


def declared(ecosystem: Ecosystem) -> Figures:
    """Return the numbers of records in the file."""
    counts = {
        name: dict(Counter(str(record["status"]) for record in records))
        for name, records in ecosystem.coordination.model_dump(mode="json").items()
        if isinstance(records, list)
    }
    return {"repos": len(ecosystem.repos), **counts}


def todo_figures(status: EcosystemStatus, in_runs: Mapping[str, int]) -> Figures:
    """Return the numbers of todos. `in_runs`: todos of live runs by state."""
    return {
        "by_status": status.counts["todos"],
        "ready": len(status.ready),
        "blocked": len(status.blocked),
        "in_runs": in_runs,
    }
