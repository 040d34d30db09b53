"""A model of locks: which request holds which name, and which requests block which. It uses no Redis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Place = tuple[float, str]
"""Rank and id: the order of a queue."""


@dataclass
class Request:
    id: str
    wants: Mapping[str, str]
    """name → mode: `x`, `s`, or `amount/capacity`"""
    priority: int
    rank: float | None = None
    fence: int | None = None
    state: str = "new"
    """new, waiting, held or over"""
    alive: bool = True
    """One that is not neither renews nor releases nor looks."""

    def amount(self, name: str) -> int:
        return int(self.wants[name].partition("/")[0])

    def shares(self, name: str, other: Request) -> bool:
        return self.wants[name] == other.wants[name] == "s"


@dataclass
class Model:
    capacities: Mapping[str, int]
    requests: dict[str, Request] = field(default_factory=dict)
    fences: list[int] = field(default_factory=list)

    def of(self, state: str, *, alive: bool = False) -> list[Request]:
        return [r for r in self.requests.values() if r.state == state and (r.alive or not alive)]

    def holders(self, name: str) -> list[Request]:
        return [r for r in self.of("held") if name in r.wants]

    def used(self, name: str) -> int:
        return sum(r.amount(name) for r in self.holders(name))

    def has_room(self, request: Request, name: str) -> bool:
        if name in self.capacities:
            return self.used(name) + request.amount(name) <= self.capacities[name]
        return all(request.shares(name, holder) for holder in self.holders(name))

    def ahead(self, request: Request, name: str, queue: Iterable[Place]) -> list[Request]:
        """The waiters before the request in the queue of the name that cannot share with it."""
        assert request.rank is not None
        mine = (request.rank, request.id)
        first = [self.requests[id_] for rank, id_ in queue if (rank, id_) < mine]
        return [r for r in first if r.state == "waiting" and not r.shares(name, request)]

    def in_the_way(self, request: Request, queues: Mapping[str, Iterable[Place]]) -> set[str]:
        """The names that the request cannot have now."""
        return {
            name
            for name in request.wants
            if not self.has_room(request, name) or self.ahead(request, name, queues[name])
        }

    def grant(self, request: Request, fence: int) -> None:
        assert all(fence > old for old in self.fences), "a fence that does not grow"
        self.fences.append(fence)
        request.state, request.fence = "held", fence

    def check_exclusion(self, names: Iterable[str]) -> None:
        for name in names:
            holders = self.holders(name)
            if name in self.capacities:
                assert self.used(name) <= self.capacities[name], f"{name}: more than there is"
            elif len(holders) > 1:
                assert all(r.wants[name] == "s" for r in holders), f"{name}: an exclusive holder is not alone"
