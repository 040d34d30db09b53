"""Wait-for graphs to look at: drawn, acyclic, and with a planted circle."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from coordination.locks.deadlock import ALONE, SHARED, Holding, Name, Request, WaitGraph, Want

AMOUNT = "amount"


class Draft:
    """A graph in the making: who holds, who waits, in the order in which they come."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._holdings: dict[str, list[Holding]] = {}
        self._queues: dict[str, list[str]] = {}

    def holds(self, party: str, name: str, mode: str = ALONE, amount: int = 1) -> None:
        request = f"{party} holds {name}"
        self.requests.append(
            Request(id=request, party=party, waiting=False, wants=(Want(name, mode, amount),))
        )
        self._holdings.setdefault(name, []).append(Holding(request, amount, alone=mode == ALONE))

    def waits(
        self, party: str, *wants: Want, rank: int | None = None, priority: int = 0, todo: bool = False
    ) -> str:
        rank = len(self.requests) if rank is None else rank
        request = Request(
            id=f"{party} waits",
            party=party,
            waiting=True,
            wants=wants,
            rank=rank,
            priority=priority,
            may_give_way=not todo,
        )
        self.requests.append(request)
        for want in wants:
            self._queues.setdefault(want.name, []).append(request.id)
        return request.id

    def holders(self, name: str) -> list[str]:
        return [holding.request.partition(" ")[0] for holding in self._holdings.get(name, [])]

    def graph(self, *, without: str = "") -> WaitGraph:
        """`without`: a party that has given way, and given everything back."""
        there = {request.id: request for request in self.requests if request.party != without}
        names = {
            name: Name(
                holdings=tuple(h for h in self._holdings.get(name, []) if h.request in there),
                queue=tuple(
                    sorted((r for r in self._queues.get(name, []) if r in there), key=lambda r: there[r].rank)
                ),
            )
            for name in self._holdings.keys() | self._queues.keys()
        }
        return WaitGraph(there.values(), names)

    @property
    def waiting(self) -> Iterator[str]:
        return (request.id for request in self.requests if request.waiting)


def acyclic(random: Random) -> Draft:
    """Requests wait only for earlier ones: once a request waits for a name, no new one may hold
    part of it.
    """
    draft = Draft()
    modes = {f"n{i}": random.choice((ALONE, SHARED, AMOUNT)) for i in range(random.randint(1, 12))}
    to_be_had = dict(modes)
    for i in range(random.randint(2, 15)):
        party = f"p{i}"
        for name, mode in random.sample(sorted(to_be_had.items()), random.randint(0, min(3, len(to_be_had)))):
            if mode != ALONE or not draft.holders(name):
                draft.holds(party, name, mode, random.randint(1, 3))
        others = [name for name in modes if party not in draft.holders(name)]
        if others and random.random() < 0.8:
            named = random.sample(others, random.randint(1, min(3, len(others))))
            draft.waits(party, *(_any_want(random, name, modes[name]) for name in named), rank=i)
            to_be_had = {name: mode for name, mode in to_be_had.items() if name not in named}
    return draft


def _any_want(random: Random, name: str, mode: str) -> Want:
    if mode == AMOUNT:
        return Want(name, AMOUNT, random.randint(1, 4), random.randint(4, 9))
    return Want(name, random.choice((ALONE, SHARED)) if mode == SHARED else ALONE)


def planted(random: Random, length: int) -> Draft:
    """c0 waits for what c1 holds, and so on back to c0; about them others, who hold and wait, and lead nobody
    back.
    """
    draft = Draft()
    wants = [_held_in_the_circle(draft, random, f"c{i}", f"x{i}") for i in range(length)]
    for i in range(random.randint(0, 5)):
        draft.waits(f"ahead{i}", random.choice(wants), rank=-10 + i)
    for i in random.sample(range(length), length):
        draft.waits(f"c{i}", wants[(i + 1) % length], priority=random.randint(-2, 2))
    for i in range(random.randint(0, 5)):
        draft.holds(f"behind{i}", f"y{i}")
        draft.waits(f"behind{i}", random.choice(wants))
    return draft


def _held_in_the_circle(draft: Draft, random: Random, party: str, name: str) -> Want:
    """In one of the ways in which a party can be needed for a name, with others who hold of it and go on."""
    way = random.choice((ALONE, SHARED, AMOUNT, "all of it together"))
    for i in range(random.randint(0, 2)):
        draft.holds(party, f"{name}-beside-{i}")
    if way == ALONE:
        draft.holds(party, name)
        return Want(name, random.choice((ALONE, SHARED)))
    if way == SHARED:
        draft.holds(party, name, SHARED)
        draft.holds("runner", name, SHARED)
        return Want(name, ALONE)
    draft.holds(party, name, AMOUNT, 2)
    if way == AMOUNT:
        draft.holds("runner", name, AMOUNT, 1)
        return Want(name, AMOUNT, 2, 3)
    return Want(name, AMOUNT, random.randint(1, 2), 2)
