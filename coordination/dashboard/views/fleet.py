"""The page Fleet: hosts, workers and their slots, services, queues, locks, resources and breakers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from coordination.api.coord import Coord
from coordination.dashboard.pages import Ask, Page
from coordination.dashboard.views.actions import holders_of
from coordination.dashboard.views.now import EXAMINED_S, UNWELL, unhealthy

LOCKS = 100


async def fleet(ask: Ask) -> Page:
    found = await ask.read("fleet", _fleet)
    health = await ask.snapshots.glance("health", unhealthy, fresh_s=EXAMINED_S)
    return Page(
        template="fleet.html",
        title="Fleet",
        data={**found.value, "unhealthy": health.value, "examined": health.at},
        seen=(found, health),
    )


def _fleet(coord: Coord) -> Mapping[str, Any]:
    with coord.answering() as connection:
        workers = connection.presence.workers()
        locks = [lock for lock in connection.locks.list(resources=True) if not lock.internal]
        breakers = connection.breakers.list()
    statistics, figures = coord.runs.stats(), coord.locks.stats()
    at_work: defaultdict[str, list[Any]] = defaultdict(list)
    for run in coord.runs.list(50, status=("running", "rolling_back")):
        for todo in run.progress.running if run.progress else ():
            at_work[todo.worker or ""].append((run.run_id, todo))
    hosts: defaultdict[str, list[Any]] = defaultdict(list)
    for worker in workers:
        hosts[worker.host].append(worker)
    return {
        "hosts": dict(sorted(hosts.items())),
        "at_work": at_work,
        "queues": statistics["queues"],
        "leases": statistics["leases"],
        "services": sorted(coord.services.list(), key=lambda one: one.state not in UNWELL),
        "locks": [(lock, holders_of(lock)) for lock in locks[:LOCKS]],
        "locks_left_out": max(0, len(locks) - LOCKS),
        "resources": figures.resources,
        "breakers": breakers,
    }
