"""Explanation of a simulated schedule's length: the chain of todos from its end back to its start. Pure.

Each todo of the chain started when the previous one ended, because it had waited for that one. If all links
are dependencies, the chain is a critical path; other links tell what was waited for instead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from coordination.planner.gates import MILESTONE_REPO
from coordination.planner.schedule import Predecessors, Schedule, Supply


class Cause(StrEnum):
    """Reason for which a todo waits."""

    PATH = "path"
    """A dependency."""
    REPO = "repo"
    """Another todo in the same repository."""
    RESOURCE = "resource"
    SLOTS = "slots"
    """All slots were occupied."""
    LEVEL = "level"
    """The barrier between two levels."""


@dataclass(frozen=True, kw_only=True)
class Link:
    todo: str
    hours: float
    cause: Cause
    """Reason why the next todo of the chain waited for this one; `path` for the last one."""
    name: str = ""
    """Name of the repository or resource."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A simulated schedule with its inputs."""

    schedule: Schedule
    predecessors: Predecessors
    repo_of: Mapping[str, str]
    supply: Supply


def chain(run: Run) -> tuple[Link, ...]:
    """Return the chain from its first todo; its hours add up to the makespan."""
    return tuple(_walk_back(run))[::-1]


def waits_by_cause(links: Sequence[Link]) -> dict[tuple[Cause, str], float]:
    """Return the hours of the chain by what the next todo waited for, without dependencies."""
    hours: defaultdict[tuple[Cause, str], float] = defaultdict(float)
    for link in links:
        if link.cause is not Cause.PATH:
            hours[link.cause, link.name] += link.hours
    return dict(hours)


def _walk_back(run: Run) -> Iterator[Link]:
    schedule = run.schedule
    ended: defaultdict[float, list[str]] = defaultdict(list)
    for name, end in schedule.end.items():
        ended[end].append(name)
    last = max(schedule.end, key=lambda name: schedule.end[name], default=None)
    cause, of = Cause.PATH, ""
    while last is not None:
        yield Link(todo=last, hours=schedule.end[last] - schedule.start[last], cause=cause, name=of)
        found = _waited_for(run, last, ended[schedule.start[last]]) if schedule.start[last] else None
        last, cause, of = found or (None, cause, of)


def _waited_for(run: Run, name: str, ending: Sequence[str]) -> tuple[str, Cause, str] | None:
    """Return a todo that ended when this one started, and the reason for the wait; None if it started without
    waiting.
    """
    others = [other for other in ending if other != name]
    needed = set(run.predecessors.get(name, ()))
    if run.schedule.ready[name] == run.schedule.start[name]:
        before = next((other for other in others if other in needed), None)
        if before is not None:
            return before, Cause.PATH, ""
        return (others[0], Cause.LEVEL, "") if others else None
    here = [other for other in others if run.repo_of[other] != MILESTONE_REPO]
    repo, needs = run.repo_of[name], run.supply.needs.get(name, {})
    for other in here:
        if run.repo_of[other] == repo:
            return other, Cause.REPO, repo
    for other in here:
        if shared := sorted(needs.keys() & run.supply.needs.get(other, {}).keys()):
            return other, Cause.RESOURCE, shared[0]
    return (here[0], Cause.SLOTS, "") if here else None
