"""Deadlocks in graphs of waits: found where there is one, nowhere else, and the right one gives way."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordination.locks.deadlock import ALONE, SHARED, Holding, LockRequest, Name, WaitGraph, Want, verdict
from tests.examples import examples

AMOUNT = "amount"


class Draft:
    """A graph in the making: who holds, who waits, in the order in which they come."""

    def __init__(self) -> None:
        self.requests: list[LockRequest] = []
        self._holdings: dict[str, list[Holding]] = {}
        self._queues: dict[str, list[str]] = {}

    def holds(self, party: str, name: str, mode: str = ALONE, amount: int = 1) -> None:
        request = f"{party} holds {name}"
        self.requests.append(
            LockRequest(id=request, party=party, waiting=False, wants=(Want(name, mode, amount),))
        )
        self._holdings.setdefault(name, []).append(Holding(request, amount, alone=mode == ALONE))

    def waits(
        self, party: str, *wants: Want, rank: int | None = None, priority: int = 0, todo: bool = False
    ) -> str:
        rank = len(self.requests) if rank is None else rank
        request = LockRequest(
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


def victim_of(draft: Draft) -> str | None:
    """Return the victim that all members choose, who must all choose alike; None without a deadlock."""
    found = {deadlock.victim for request in draft.waiting if (deadlock := draft.graph().deadlock(request))}
    assert len(found) <= 1
    return next(iter(found), None)


@settings(max_examples=examples(150))
@given(st.randoms(use_true_random=False))
def test_no_false_alarm_in_any_acyclic_graph(random: Random):
    draft = acyclic(random)

    assert not draft.graph().stuck()
    assert victim_of(draft) is None


@settings(max_examples=examples(80))
@given(st.randoms(use_true_random=False), st.integers(2, 10))
def test_any_planted_circle_is_seen_by_each_of_it_and_one_victim_resolves_it(random: Random, length: int):
    draft = planted(random, length)
    circle = {f"c{i} waits" for i in range(length)}

    seen = {request for request in draft.waiting if draft.graph().deadlock(request)}

    assert seen == circle
    victim = victim_of(draft)
    assert victim in circle
    assert not draft.graph(without=victim.partition(" ")[0]).stuck()


@given(st.randoms(use_true_random=False), st.integers(2, 10))
def test_the_proof_holds_only_what_stands(random: Random, length: int):
    draft = planted(random, length)
    found = draft.graph().deadlock("c0 waits")
    assert found

    assert set(found.cycle) <= set(found.proof)
    assert {link.waiter for link in found.cycle} == {f"c{i} waits" for i in range(length)}
    for link, following in zip(found.cycle, (*found.cycle[1:], found.cycle[0]), strict=True):
        assert link.blocker.partition(" ")[0] == following.waiter.partition(" ")[0]


def drawn(held: str, waits: str, **last: int | bool) -> Draft:
    """Held: `a x, b gpu 1, c x shared`; waits, in order: `a y, b x + z, c gpu 2/2`; `last`: more of the
    last.
    """
    draft = Draft()
    for one in held.split(", "):
        party, name, *mode = one.split()
        if mode and mode[0].isdigit():
            draft.holds(party, name, AMOUNT, int(mode[0]))
        else:
            draft.holds(party, name, SHARED if mode else ALONE)
    *others, final = waits.split(", ")
    for one in others:
        draft.waits(one.split()[0], *wants(one))
    draft.waits(final.split()[0], *wants(final), **last)
    return draft


def wants(said: str) -> list[Want]:
    found = []
    for want in said.split(maxsplit=1)[1].split(" + "):
        name, *mode = want.split()
        if not mode:
            found.append(Want(name))
        elif mode[0] == "shared":
            found.append(Want(name, SHARED))
        else:
            found.append(Want(name, AMOUNT, *map(int, mode[0].split("/"))))
    return found


GIVES_WAY: dict[str, tuple[Draft, str | None]] = {
    "a circle of one": (drawn("a x", "a x"), "a"),
    "shares a name and wants it alone": (drawn("a x shared", "a x"), "a"),
    "the fewest names, whatever its priority": (drawn("a x, b y, b z", "a y, b x", priority=-9), "a"),
    "as many names: the lower priority": (drawn("a x, b y", "a y, b x", priority=1), "a"),
    "equals: the youngest": (drawn("a x, b y", "a y, b x"), "b"),
    "one of several holders goes on and may leave enough": (
        drawn("a x, b gpu 1, c gpu 1", "a gpu 1/2, b x"),
        None,
    ),
    "only queues between two": (drawn("a x, b y", "between y, a y, b x"), "b"),
    "a place in a queue, and holds nothing": (drawn("b y", "a x + y, b x"), "a"),
    "wants alone what two share in turn": (drawn("a x shared, b y", "alone x, a y, b x shared"), "alone"),
    "wants more than the capacity": (drawn("a x", "a gpu 4/2, b x"), None),
    "shared ones pass each other in a queue": (drawn("b y", "a x shared + y, b x shared"), None),
    "two holders of a capacity wait for who wants of it": (
        drawn("a x, b gpu 1, c gpu 1", "a gpu 2/2, b x, c x"),
        "a",
    ),
}


@pytest.mark.parametrize(("draft", "victim"), GIVES_WAY.values(), ids=GIVES_WAY)
def test_one_of_a_deadlock_gives_way(draft: Draft, victim: str | None):
    assert victim_of(draft) == (victim and f"{victim} waits")


def test_a_todo_never_gives_way():
    draft = Draft()
    draft.holds("b", "y")
    draft.waits("todo", Want("x"), Want("y"), todo=True)
    draft.waits("b", Want("x"))

    assert victim_of(draft) == "b waits"


def test_a_fence_is_no_verdict():
    assert verdict("1763700000000000") is None
