"""Why a simulated schedule takes as long as it does: the chain of todos that reaches from its end back to its beginning, each
of which began the moment that the one before it ended, since it had waited for that one. Pure.

Where all links of the chain are dependencies, it is a critical path; the others tell what was waited for instead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from coordination.planner.gates import MILESTONE_REPO
from coordination.planner.resources import Supply
from coordination.planner.schedule import Predecessors, Schedule


class Cause(StrEnum):
    """What can hold up a todo."""

    PATH = "path"
    """What it depends on."""
    REPO = "repo"
    """Another todo of its repository."""
    RESOURCE = "resource"
    SLOTS = "slots"
    """As many todos were under way as may be."""
    LEVEL = "level"
    """The barrier between two levels."""


@dataclass(frozen=True, kw_only=True)
class Link:
    todo: str
    hours: float
    cause: Cause
    """Why the next one of the chain had to wait for it; of the last one `path`."""
    name: str = ""
    """Of the repository or resource."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What was simulated."""

    schedule: Schedule
    predecessors: Predecessors
    repo_of: Mapping[str, str]
    supply: Supply


def chain(run: Run) -> tuple[Link, ...]:
    """First todo first; the hours add up to the makespan."""
    return tuple(_back(run))[::-1]


def waited(links: Sequence[Link]) -> dict[tuple[Cause, str], float]:
    """Hours of the chain by what the next one waited for, dependencies left out."""
    hours: defaultdict[tuple[Cause, str], float] = defaultdict(float)
    for link in links:
        if link.cause is not Cause.PATH:
            hours[link.cause, link.name] += link.hours
    return dict(hours)


def _back(run: Run) -> Iterator[Link]:
    schedule = run.schedule
    ended: defaultdict[float, list[str]] = defaultdict(list)
    for name, end in schedule.end.items():
        ended[end].append(name)
    last = max(schedule.end, key=lambda name: schedule.end[name], default=None)
    cause, of = Cause.PATH, ""
    while last is not None:
        yield Link(todo=last, hours=schedule.end[last] - schedule.start[last], cause=cause, name=of)
        found = _held_up_by(run, last, ended[schedule.start[last]]) if schedule.start[last] else None
        last, cause, of = found or (None, cause, of)


def _held_up_by(run: Run, name: str, ending: Sequence[str]) -> tuple[str, Cause, str] | None:
    """One of those that ended when it began, and why it had to wait for that. None: it began by itself."""
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
