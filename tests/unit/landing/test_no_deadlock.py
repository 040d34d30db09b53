"""Two landings and the todos of other runs never block each other: all interleavings of their todos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import networkx as nx
import pytest

from coordination.landing.graph import landing_graph
from coordination.models import NoopAction
from tests.unit.landing.test_landing_rules import changes, decided, file

Step = tuple[frozenset[str], frozenset[str]]
"""The locks that it takes, all at once or not at all, and releases when it has ended."""
State = tuple[int, ...]
NOTHING: frozenset[str] = frozenset()


def landing(repos: str, *waves: object, freed: bool = True) -> list[Step]:
    """The todos of a landing run, one after the other; its end releases the locks that no wave has freed."""
    ecosystem = file(land={"waves": list(waves)} if waves else None)
    _, graph = landing_graph(ecosystem, decided(ecosystem, changes(repos)))
    order = nx.DiGraph((one, todo) for todo, before in graph.predecessors.items() for one in before)
    steps, held = list[Step](), NOTHING
    for todo in (graph.todos[name] for name in nx.lexicographical_topological_sort(order)):
        action, slot = todo.action, frozenset({f"slot:{todo.repo}"})
        if isinstance(action, NoopAction) and action.holds:
            takes = frozenset(f"land:{repo}" for repo in action.holds)
            held |= takes
            steps.append((takes, NOTHING))
        elif isinstance(action, NoopAction) and action.frees and freed:
            steps.append((slot, slot | held))
            held = NOTHING
        else:
            steps.append((slot, slot))
    return [*steps, (NOTHING, held)]


SWEEP: Sequence[Step] = [(frozenset({f"slot:{repo}"}),) * 2 for repo in "abcd"]


def stuck_states(*runs: Sequence[Step]) -> list[State]:
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
        ahead += set(following) - seen
        seen.update(following)
    return stuck


def _following(runs: Sequence[Sequence[Step]], state: State) -> Iterator[State]:
    held = set().union(*(_held(run, at) for run, at in zip(runs, state, strict=True)))
    for i, (run, at) in enumerate(zip(runs, state, strict=True)):
        if at < 2 * len(run) and (at % 2 or not run[at // 2][0] & held):
            yield (*state[:i], at + 1, *state[i + 1 :])


def _held(run: Sequence[Step], at: int) -> frozenset[str]:
    found = NOTHING
    for number, (takes, gives) in enumerate(run):
        found |= takes if at > 2 * number else NOTHING
        found -= gives if at > 2 * number + 1 else NOTHING
    return found


LANDINGS = [("a",), ("bc",), ("ad",), ("ad", "a", "d"), ("ad", "d", "a"), ("ab", 1, "rest")]


@pytest.mark.parametrize(("first", "second"), [*product(LANDINGS, repeat=2)])
def test_no_interleaving_of_two_landings_and_a_sweep_blocks(first, second):
    assert stuck_states(landing(*first), landing(*second), SWEEP) == []


def test_waves_that_keep_their_locks_would_block_each_other():
    assert stuck_states(landing("ad", "a", "d", freed=False), landing("ad", "d", "a", freed=False))
