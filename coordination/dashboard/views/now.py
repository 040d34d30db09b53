"""The pages Now and Fleet.

Now shows live runs, todos that wait for a person, failed runs and problems of health. Fleet shows workers and
their slots, services, queues, locks, resources and breakers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from coordination.api import UNWELL, Finding, RunStatus, RunView, TodoView, findings, last_lines
from coordination.api.coord import Coord
from coordination.api.machine import examine
from coordination.dashboard.pages import Page, PageRequest
from coordination.dashboard.views.actions import holders_of

LIVE = ("running", "paused", "rolling_back")
FAILED = (RunStatus.FAILED, RunStatus.ROLLED_BACK, RunStatus.ROLLBACK_FAILED)
"""Ends of a run that are failures, unless a person had it rolled back."""
SHOWN, FAILED_READ = 20, 50
CAUSES, CAUSES_OF = 3, 500
"""Number of failed todos that are shown of a run, and of todos of the largest run that is read for them."""
DAY = timedelta(days=1)
EXAMINED_S = 20.0
"""Seconds for which an examination of machine, Redis and workers is kept, because it is slow."""


async def now(request: PageRequest) -> Page:
    runs = await request.read("now", _now)
    health = await request.snapshots.get_if_quick("health", unhealthy, fresh_s=EXAMINED_S)
    asking = runs.value["asking"]
    causes_of = {run.run_id: await _causes(request, run) for run in runs.value["failed"]}
    mine = await request.repos_with("approve", {repo for _, repo in asking})
    return Page(
        template="now.html",
        title="Now",
        state=f"? {len(asking)}" if asking else "",
        data={
            **runs.value,
            "causes_of": causes_of,
            "asking": [one for one, repo in asking if repo in mine],
            "others": [(one, repo) for one, repo in asking if repo not in mine],
            "unhealthy": health.value,
            "examined": health.at,
        },
        seen=(runs, health),
    )


@dataclass(frozen=True)
class Causes:
    """The first failed todos of a run, and the last lines of their output."""

    todos: Sequence[TodoView] = ()
    tails: Mapping[str, str] = field(default_factory=dict)


async def _causes(request: PageRequest, run: RunView) -> Causes:
    """Return the causes of a failed run; none for a large run, which takes long to read."""
    if sum(run.counts.values()) > CAUSES_OF:
        return Causes()
    # The todos of a run that has ended change with a rollback only.
    found = await request.read(
        ("causes", run.run_id, run.status), lambda coord: _read_causes(coord, run.run_id), fresh_s=60
    )
    return found.value


def _read_causes(coord: Coord, run_id: str) -> Causes:
    failed = [todo for todo in coord.runs.get(run_id).view().todos if todo.has_failed][:CAUSES]
    return Causes(failed, tails_of(coord, run_id, failed))


def tails_of(coord: Coord, run_id: str, failed: Iterable[TodoView]) -> dict[str, str]:
    """Return todo → the last lines of its output, of the first failed ones that have any."""
    run = coord.runs.get(run_id)
    tails = {one.id: last_lines(run.log_tail(one.id)) for one in islice(failed, CAUSES) if one.started_at}
    return {name: "\n".join(lines) for name, lines in tails.items() if lines}


def _now(coord: Coord) -> Mapping[str, Any]:
    live = coord.runs.list(limit=SHOWN, status=LIVE)
    ended = coord.runs.list(limit=FAILED_READ, status=FAILED, since=datetime.now(UTC) - DAY)
    failed = [run for run in ended if run.status is not RunStatus.ROLLED_BACK or not run.steered_by]
    declared = coord.document.ecosystem.coordination
    todos = declared.todos
    repos = {todo.id: todo.repo for todo in todos}
    asking = [(one, repos.get(one.todo, "")) for one in coord.live.asking()]
    names = {one.todo for one, _ in asking}
    return {
        "live": live,
        "asking": asking,
        "tasks": {todo.id: todo for todo in todos if todo.id in names},
        "task_of": {todo.id: todo.task for todo in todos},
        "failed": newest_by_plan(failed)[:SHOWN],
        "failures": Counter(run.plan_id for run in failed),
        "titles": {plan.id: plan.title for plan in declared.plans},
    }


def newest_by_plan(runs: Iterable[RunView]) -> list[RunView]:
    """Return the first run of each plan: a plan that is tried again and again must not hide the others."""
    found: dict[str, RunView] = {}
    for run in runs:
        found.setdefault(run.plan_id, run)
    return list(found.values())


def unhealthy(coord: Coord) -> tuple[Finding, ...]:
    """Return the problems of machine, Redis, workers and services, each with its remedy."""
    return findings(examine(coord))


LOCKS = 100


async def fleet(request: PageRequest) -> Page:
    found = await request.read("fleet", _fleet)
    health = await request.snapshots.get_if_quick("health", unhealthy, fresh_s=EXAMINED_S)
    return Page(
        template="fleet.html",
        title="Fleet",
        data={**found.value, "unhealthy": health.value, "examined": health.at},
        seen=(found, health),
    )


def _fleet(coord: Coord) -> Mapping[str, Any]:
    with coord.answering() as connection:
        workers = connection.registry.workers()
        locks = [lock for lock in connection.locks.list(resources=True) if not lock.internal]
        breakers = connection.breakers.list()
    statistics, figures = coord.runs.stats(), coord.locks.stats()
    at_work: defaultdict[str, list[Any]] = defaultdict(list)
    for run in coord.runs.list(limit=50, status=("running", "rolling_back")):
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
