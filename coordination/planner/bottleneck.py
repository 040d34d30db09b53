"""What holds a plan up: the term of the bound that dominates; where a schedule takes longer than the bound, what was waited for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from coordination.planner.hours import say
from coordination.planner.wait_chain import Cause, Run, chain, waited

NEAR = 0.01
"""A schedule that is no more above its bound is held up by what makes the bound."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The terms of the bound, in hours."""

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
    """Of the repository or resource; else empty."""
    hours: float
    """What it takes at least, or for how long it was waited for."""
    seen_in: Literal["bound", "simulation"]
    reason: str
    """In words."""


def find(limits: Limits, run: Run) -> Bottleneck:
    dominant = _dominant(limits)
    waits = waited(chain(run))
    if run.schedule.makespan <= dominant.hours * (1 + NEAR) or not waits:
        return dominant
    (kind, name), hours = max(waits.items(), key=lambda item: item[1])
    words = (
        f"{_words(kind, name, limits)} waited for during {say(hours)} of the {say(run.schedule.makespan)} "
        f"(no schedule could take less than {say(dominant.hours)})"
    )
    return Bottleneck(kind=kind, name=name, hours=hours, seen_in="simulation", reason=words)


def _dominant(limits: Limits) -> Bottleneck:
    """Among equals the one that more machines could help least."""
    by_slots = limits.work_h / limits.slots
    terms = [
        (limits.path_h, Cause.PATH, "", "no todo of it can start before the one before it has ended"),
        (limits.repo_h, Cause.REPO, limits.repo, f"{say(limits.repo_h)} of work, one todo at a time"),
        (limits.resource_h, Cause.RESOURCE, limits.resource, f"in use for {say(limits.resource_h)}, were all of it always in use"),
        (by_slots, Cause.SLOTS, "", f"{say(limits.work_h)} of work, {limits.slots} at once"),
    ]  # fmt: skip
    hours, kind, name, why = max(terms, key=lambda term: round(term[0], 9))
    return Bottleneck(kind=kind, name=name, hours=hours, seen_in="bound", reason=f"{_words(kind, name, limits)} {why}")


def _words(kind: Cause, name: str, limits: Limits) -> str:
    return {
        Cause.PATH: "the critical path:",
        Cause.REPO: f"repository {name}:",
        Cause.RESOURCE: f"resource {name}:",
        Cause.SLOTS: f"the {limits.slots} slots:" if limits.slots > 1 else "the one slot:",
        Cause.LEVEL: "the barriers between levels:",
    }[kind]
