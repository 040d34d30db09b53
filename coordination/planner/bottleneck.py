"""The bottleneck of a plan: the dominant term of the lower bound of its duration. Pure.

If a simulated schedule takes longer than the bound, the bottleneck is what the todos on its wait chain waited
for longest. The chain leads from the end of the schedule back to its start: each todo of it started when the
previous one ended, because it had waited for that one. If all links are dependencies, the chain is a critical
path.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from coordination.planner.gates import MILESTONE_REPO
from coordination.planner.schedule import Predecessors, Schedule, Supply
from coordination.text import format_hours


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
class ChainLink:
    todo: str
    hours: float
    cause: Cause
    """Reason why the next todo of the chain waited for this one; `path` for the last one."""
    name: str = ""
    """Name of the repository or resource."""


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """A simulated schedule with its inputs."""

    schedule: Schedule
    predecessors: Predecessors
    repo_of: Mapping[str, str]
    supply: Supply


def chain(simulation: Simulation) -> tuple[ChainLink, ...]:
    """Return the chain from its first todo; its hours add up to the makespan."""
    return tuple(_walk_back(simulation))[::-1]


def waits_by_cause(links: Sequence[ChainLink]) -> dict[tuple[Cause, str], float]:
    """Return the hours of the chain by what the next todo waited for, without dependencies."""
    hours: defaultdict[tuple[Cause, str], float] = defaultdict(float)
    for link in links:
        if link.cause is not Cause.PATH:
            hours[link.cause, link.name] += link.hours
    return dict(hours)


def _walk_back(simulation: Simulation) -> Iterator[ChainLink]:
    schedule = simulation.schedule
    ended: defaultdict[float, list[str]] = defaultdict(list)
    for name, end in schedule.end.items():
        ended[end].append(name)
    last = max(schedule.end, key=lambda name: schedule.end[name], default=None)
    cause, of = Cause.PATH, ""
    while last is not None:
        yield ChainLink(todo=last, hours=schedule.end[last] - schedule.start[last], cause=cause, name=of)
        found = _waited_for(simulation, last, ended[schedule.start[last]]) if schedule.start[last] else None
        last, cause, of = found or (None, cause, of)


def _waited_for(simulation: Simulation, name: str, ending: Sequence[str]) -> tuple[str, Cause, str] | None:
    """Return a todo that ended when this one started, and the reason for the wait; None if it started without
    waiting.
    """
    others = [other for other in ending if other != name]
    needed = set(simulation.predecessors.get(name, ()))
    if simulation.schedule.ready[name] == simulation.schedule.start[name]:
        before = next((other for other in others if other in needed), None)
        if before is not None:
            return before, Cause.PATH, ""
        return (others[0], Cause.LEVEL, "") if others else None
    here = [other for other in others if simulation.repo_of[other] != MILESTONE_REPO]
    repo, needs = simulation.repo_of[name], simulation.supply.needs.get(name, {})
    for other in here:
        if simulation.repo_of[other] == repo:
            return other, Cause.REPO, repo
    for other in here:
        if shared := sorted(needs.keys() & simulation.supply.needs.get(other, {}).keys()):
            return other, Cause.RESOURCE, shared[0]
    return (here[0], Cause.SLOTS, "") if here else None


NEAR = 0.01
"""Relative distance to the bound within which the term of the bound is the bottleneck."""


@dataclass(frozen=True, kw_only=True)
class BoundTerms:
    """The terms of the lower bound, in hours."""

    path_h: float
    slots: int
    work_h: float
    repo: str
    repo_h: float
    resource: str
    resource_h: float


@dataclass(frozen=True, kw_only=True)
class Bottleneck:
    kind: Cause
    name: str
    """Name of the repository or resource, else empty."""
    hours: float
    """Minimal hours that it needs, or hours that todos waited for it."""
    seen_in: Literal["bound", "simulation"]
    reason: str
    """Explanation for people."""


def find_bottleneck(terms: BoundTerms, simulation: Simulation) -> Bottleneck:
    """Return the dominant term, or what the todos of the simulated schedule waited for longest, if that takes
    longer than the bound.
    """
    dominant = _dominant(terms)
    waits = waits_by_cause(chain(simulation))
    if simulation.schedule.makespan <= dominant.hours * (1 + NEAR) or not waits:
        return dominant
    (kind, name), hours = max(waits.items(), key=lambda item: item[1])
    reason = (
        f"{_label(kind, name, terms)} waited for during {format_hours(hours)} of the "
        f"{format_hours(simulation.schedule.makespan)} (no schedule could take less than "
        f"{format_hours(dominant.hours)})"
    )
    return Bottleneck(kind=kind, name=name, hours=hours, seen_in="simulation", reason=reason)


def _dominant(terms: BoundTerms) -> Bottleneck:
    """Return the dominant term; among equal ones the one that more machines would help least."""
    by_slots = terms.work_h / terms.slots
    candidates = [
        (terms.path_h, Cause.PATH, "", "each todo of it waits for the one before"),
        (terms.repo_h, Cause.REPO, terms.repo,
            f"{format_hours(terms.repo_h)} of work, one todo at a time"),
        (terms.resource_h, Cause.RESOURCE, terms.resource,
            f"in use for {format_hours(terms.resource_h)} at full utilisation"),
        (by_slots, Cause.SLOTS, "", f"{format_hours(terms.work_h)} of work, {terms.slots} at once"),
    ]  # fmt: skip
    hours, kind, name, why = max(candidates, key=lambda term: round(term[0], 9))
    return Bottleneck(
        kind=kind, name=name, hours=hours, seen_in="bound", reason=f"{_label(kind, name, terms)} {why}"
    )


def _label(kind: Cause, name: str, terms: BoundTerms) -> str:
    return {
        Cause.PATH: "the critical path:",
        Cause.REPO: f"repository {name}:",
        Cause.RESOURCE: f"resource {name}:",
        Cause.SLOTS: f"the {terms.slots} slots:" if terms.slots > 1 else "the one slot:",
        Cause.LEVEL: "the barriers between levels:",
    }[kind]
