"""Two landings and the todos of other runs never block each other: all interleavings of a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import pytest

Step = tuple[frozenset[str], frozenset[str]]
"""The locks that it takes, all at once or not at all, and releases when it has ended."""
State = tuple[int, ...]


def slot(repo: str) -> frozenset[str]:
    return frozenset({f"slot:{repo}"})


def landing(repos: Sequence[str], *, barrier_has_slot: bool = False, one_by_one: bool = False) -> list[Step]:
    """The steps of a landing run: checks, barrier, land todos, end."""
    locks = frozenset(f"land:{repo}" for repo in repos)
    nothing: frozenset[str] = frozenset()
    checks = [(slot(repo), slot(repo)) for repo in repos]
    own = slot(repos[0]) if barrier_has_slot else nothing
    barrier = [(locks | own, nothing)]
    if one_by_one:
        barrier = [(frozenset({f"land:{repo}"}), nothing) for repo in repos]
    lands = [(slot(repo), slot(repo)) for repo in repos]
    return [*checks, *barrier, *lands, (nothing, locks | own)]


def in_waves(*waves: Sequence[str], freed: bool = True) -> list[Step]:
    """The steps of a landing in waves: each gives its locks back before the next one takes any."""
    ends = [(frozenset[str](), frozenset(f"land:{repo}" for repo in wave)) for wave in waves]
    steps = [landing(wave)[:-1] for wave in waves]
    if freed:
        return [step for one, end in zip(steps, ends, strict=True) for step in (*one, end)]
    return [*(step for one in steps for step in one), *ends]


def work(repos: Sequence[str]) -> list[Step]:
    """A sweep: one todo in each repository."""
    return [(slot(repo), slot(repo)) for repo in repos]


def stuck_states(runs: Sequence[Sequence[Step]]) -> list[State]:
    """Every state that can be reached and in which nobody can go on, though somebody has not ended.

    A step of a run has two moments: it takes what it needs, it ends.
    """
    begin: State = (0,) * len(runs)
    seen, ahead, stuck = {begin}, [begin], []
    while ahead:
        state = ahead.pop()
        following = list(_following(runs, state))
        if not following and any(at < 2 * len(run) for at, run in zip(state, runs, strict=True)):
            stuck.append(state)
        for one in following:
            if one not in seen:
                seen.add(one)
                ahead.append(one)
    return stuck


def _following(runs: Sequence[Sequence[Step]], state: State) -> Iterator[State]:
    held = set().union(*(_held(run, at) for run, at in zip(runs, state, strict=True)))
    for i, (run, at) in enumerate(zip(runs, state, strict=True)):
        if at == 2 * len(run):
            continue
        takes, _ = run[at // 2]
        if at % 2 or not takes & held:
            yield (*state[:i], at + 1, *state[i + 1 :])


def _held(run: Sequence[Step], at: int) -> set[str]:
    found: set[str] = set()
    for number, (takes, gives) in enumerate(run):
        if at > 2 * number:
            found |= takes
        if at > 2 * number + 1:
            found -= gives
    return found


REPOS = [("a",), ("a", "b"), ("b", "a"), ("b", "c"), ("a", "b", "c")]


@pytest.mark.parametrize(("first", "second"), list(product(REPOS, repeat=2)))
def test_no_interleaving_of_two_landings_and_a_sweep_blocks(first, second):
    assert stuck_states([landing(first), landing(second), work("abc")]) == []


WAVES = [("a", "b"), ("b", "a"), ("ab", "c"), ("c", "ab")]


@pytest.mark.parametrize(("first", "second"), [*product(WAVES, repeat=2)])
def test_no_interleaving_of_two_landings_in_waves_blocks(first, second):
    assert stuck_states([in_waves(*first), in_waves(*second), work("ab")]) == []


def test_the_model_finds_the_deadlock_of_waves_that_keep_their_locks():
    assert stuck_states([in_waves("a", "b", freed=False), in_waves("b", "a", freed=False)])


def test_the_model_finds_the_deadlock_of_locks_taken_one_by_one():
    assert stuck_states([landing("ab", one_by_one=True), landing("ba", one_by_one=True)])


def test_the_model_finds_the_deadlock_of_a_barrier_that_keeps_a_slot():
    def greedy(repos: str) -> list[Step]:
        return [(slot(repos[0]), frozenset()), *landing(repos)[len(repos) :]]

    assert stuck_states([greedy("ab"), greedy("ba")])
