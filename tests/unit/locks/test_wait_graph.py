"""A deadlock is found where there is one, nowhere else, and one gives way."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting_graphs import AMOUNT, Draft, acyclic, planted

from coordination.locks.deadlock import ALONE, SHARED, Want, verdict

LENGTHS = range(2, 11)


def victim_of(draft: Draft) -> str | None:
    """Return the victim that all members choose, who must all choose alike; None without a deadlock."""
    found = {deadlock.victim for request in draft.waiting if (deadlock := draft.graph().deadlock(request))}
    assert len(found) <= 1
    return next(iter(found), None)


def test_no_false_alarm_in_10000_acyclic_graphs():
    for seed in range(10_000):
        graph = acyclic(Random(seed)).graph()
        assert not graph.stuck(), seed


@given(st.randoms(use_true_random=False))
def test_no_false_alarm_in_any_acyclic_graph(random: Random):
    draft = acyclic(random)

    assert victim_of(draft) is None


@pytest.mark.parametrize("length", LENGTHS)
def test_every_planted_circle_is_found_and_one_victim_resolves_it(length: int):
    for seed in range(30):
        draft = planted(Random(seed), length)

        victim = victim_of(draft)

        assert victim, seed
        assert victim in {f"c{i} waits" for i in range(length)}, seed
        assert not draft.graph(without=victim.partition(" ")[0]).stuck(), seed


@given(st.randoms(use_true_random=False), st.integers(2, 10))
def test_any_planted_circle_is_seen_by_each_of_it_and_by_nobody_else(random: Random, length: int):
    draft = planted(random, length)

    seen = {request for request in draft.waiting if draft.graph().deadlock(request)}

    assert seen == {f"c{i} waits" for i in range(length)}


@given(st.randoms(use_true_random=False), st.integers(2, 10))
def test_the_proof_holds_only_what_stands(random: Random, length: int):
    draft = planted(random, length)
    found = draft.graph().deadlock("c0 waits")
    assert found

    assert set(found.cycle) <= set(found.proof)
    assert {link.waiter for link in found.cycle} == {f"c{i} waits" for i in range(length)}
    for link, following in zip(found.cycle, (*found.cycle[1:], found.cycle[0]), strict=True):
        assert link.blocker.partition(" ")[0] == following.waiter.partition(" ")[0]


def two(**second: int) -> Draft:
    """a and b, each of which waits for what the other holds."""
    draft = Draft()
    draft.holds("a", "x")
    draft.holds("b", "y")
    draft.waits("a", Want("y"))
    draft.waits("b", Want("x"), **second)
    return draft


def test_who_waits_for_what_it_holds_itself_is_a_circle_of_one():
    draft = Draft()
    draft.holds("a", "x")
    draft.waits("a", Want("x"))

    assert victim_of(draft) == "a waits"


def test_who_shares_a_name_and_wants_it_alone_waits_for_itself():
    draft = Draft()
    draft.holds("a", "x", SHARED)
    draft.waits("a", Want("x", ALONE))

    assert victim_of(draft) == "a waits"


def test_the_one_with_the_fewest_names_gives_way_whatever_its_priority():
    draft = two(priority=-9)
    draft.holds("b", "z")

    assert victim_of(draft) == "a waits"


def test_of_two_with_as_many_names_the_lower_priority_gives_way():
    assert victim_of(two(priority=1)) == "a waits"


def test_of_equals_the_youngest_gives_way():
    assert victim_of(two()) == "b waits"


def test_one_of_several_holders_who_goes_on_may_leave_enough():
    draft = Draft()
    draft.holds("a", "x")
    draft.holds("b", "gpu", AMOUNT, 1)
    draft.holds("c", "gpu", AMOUNT, 1)
    draft.waits("a", Want("gpu", AMOUNT, 1, 2))
    draft.waits("b", Want("x"))

    assert victim_of(draft) is None


def test_two_holders_of_a_capacity_who_both_wait_for_who_wants_of_it_are_one_deadlock():
    draft = Draft()
    draft.holds("a", "x")
    for party in "bc":
        draft.holds(party, "gpu", AMOUNT, 1)
    draft.waits("a", Want("gpu", AMOUNT, 2, 2))
    draft.waits("b", Want("x"))
    draft.waits("c", Want("x"))

    assert victim_of(draft) == "a waits", "it alone sets both others free"


def test_who_only_queues_between_two_does_not_give_way_for_them():
    draft = Draft()
    draft.holds("a", "x")
    draft.holds("b", "y")
    draft.waits("between", Want("y"))
    draft.waits("a", Want("y"))
    draft.waits("b", Want("x"))

    assert victim_of(draft) == "b waits"


def test_a_place_in_a_queue_can_be_what_the_other_waits_for():
    draft = Draft()
    draft.holds("b", "y")
    draft.waits("a", Want("x"), Want("y"))
    draft.waits("b", Want("x"))

    assert victim_of(draft) == "a waits", "it holds nothing"


def test_who_wants_alone_what_two_share_in_turn_gives_way():
    draft = Draft()
    draft.holds("a", "x", SHARED)
    draft.holds("b", "y")
    draft.waits("alone", Want("x", ALONE))
    draft.waits("a", Want("y"))
    draft.waits("b", Want("x", SHARED))

    assert victim_of(draft) == "alone waits", "a and b can share x: it stands between them"


def test_a_todo_never_gives_way():
    draft = Draft()
    draft.holds("b", "y")
    draft.waits("todo", Want("x"), Want("y"), todo=True)
    draft.waits("b", Want("x"))

    assert victim_of(draft) == "b waits"


def test_a_want_above_what_there_is_left_of_a_capacity_is_no_deadlock():
    draft = Draft()
    draft.holds("a", "x")
    draft.waits("a", Want("gpu", AMOUNT, 4, 2))
    draft.waits("b", Want("x"))

    assert victim_of(draft) is None


def test_shared_ones_pass_each_other_in_a_queue():
    draft = Draft()
    draft.holds("b", "y")
    draft.waits("a", Want("x", SHARED), Want("y"))
    draft.waits("b", Want("x", SHARED))

    assert victim_of(draft) is None


def test_a_fence_is_no_verdict():
    assert verdict("1763700000000000") is None
