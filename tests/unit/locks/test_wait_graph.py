"""Deadlocks in graphs of waits: found where there is one, nowhere else, and the right one gives way."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting_graphs import AMOUNT, Draft, acyclic, planted

from coordination.locks.deadlock import ALONE, SHARED, Want, verdict
from tests.examples import examples


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
