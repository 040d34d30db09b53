"""What parties hold and wait for, as the wait-for graph is made of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

ALONE, SHARED = "x", "s"


class Want(NamedTuple):
    name: str
    mode: str = ALONE
    """ALONE, SHARED, or anything else for an amount of a capacity."""
    amount: int = 1
    capacity: int = 0

    @property
    def counts(self) -> bool:
        """Whether it is an amount: then several holders may be in its way only together."""
        return self.mode not in (ALONE, SHARED)

    def excluders(self, holdings: Iterable[Holding]) -> list[Holding]:
        """Those of the holdings by which it is refused; none where they leave room."""
        if self.mode == ALONE:
            return list(holdings)
        found = [holding for holding in holdings if holding.alone != self.counts]
        return [] if self.counts and self.amount <= self.capacity - sum(h.amount for h in found) else found


class Holding(NamedTuple):
    request: str
    amount: int = 1
    alone: bool = True


@dataclass(frozen=True, kw_only=True)
class Name:
    """A name as it stands: who holds it, and who waits for it, first come first."""

    holdings: tuple[Holding, ...] = ()
    queue: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Request:
    id: str
    party: str
    waiting: bool
    wants: tuple[Want, ...]
    rank: int = 0
    """Within a priority: later is higher."""
    priority: int = 0
    may_give_way: bool = True
    """Not a run's todo: it asks for everything at once, and holds nothing while it waits."""

    def want(self, name: str) -> Want | None:
        return next((want for want in self.wants if want.name == name), None)


class Link(NamedTuple):
    """`waiter` cannot have `name` because of `blocker`: two requests."""

    waiter: str
    name: str
    blocker: str


@dataclass(frozen=True, kw_only=True)
class Deadlock:
    circle: tuple[Link, ...]
    """Each link's blocker is of the party that waits in the next."""
    proof: tuple[Link, ...]
    """While these stand, none of the circle can go on. More than the circle where names have several holders."""
    victim: str
    """The request that is to give way."""
