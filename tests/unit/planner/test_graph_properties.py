from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_ecosystems import PLAN, Drawn, acyclic

from coordination.errors import PlanRefused
from coordination.models import TodoStatus
from coordination.planner.graph import PlanGraph, build
from coordination.planner.schedule import longest_path
from coordination.planner.selection import Selectors
from tests.examples import examples

FEW = settings(max_examples=examples(60))


def reachable(start: str, successors: Mapping[str, Collection[str]]) -> set[str]:
    seen: set[str] = set()
    ahead = [start]
    while ahead:
        for name in successors[ahead.pop()]:
            if name not in seen:
                seen.add(name)
                ahead.append(name)
    return seen


def longest(graph: PlanGraph, name: str) -> float:
    return graph.hours[name] + max((longest(graph, after) for after in graph.successors[name]), default=0)


@FEW
@given(acyclic())
def test_levels_order_and_critical_path_follow_from_the_edges(drawn: Drawn) -> None:
    graph = build(drawn.ecosystem, PLAN)
    position = {name: i for i, name in enumerate(graph.todos)}

    assert frozenset(graph.edges) == drawn.edges
    for before, name in drawn.edges:
        assert graph.depth[before] < graph.depth[name]
        assert position[before] < position[name]
    for name in graph.todos:
        assert graph.depth[name] == 0 or any(
            graph.depth[b] == graph.depth[name] - 1 for b in graph.predecessors[name]
        )

    assert sorted(name for level in graph.levels for name in level) == sorted(graph.todos)
    for level in graph.levels:
        assert list(level) == sorted(level, key=graph.order.__getitem__)
        assert all(graph.rank[a] >= graph.rank[b] - 1e-6 for a, b in pairwise(level))

    assert all(after in graph.successors[before] for before, after in pairwise(graph.critical_path))
    assert sum(graph.hours[name] for name in graph.critical_path) == pytest.approx(graph.critical_hours)
    assert graph.critical_hours == pytest.approx(max(longest(graph, name) for name in graph.todos))
    assert longest_path(graph.hours, graph.predecessors) == pytest.approx(graph.critical_hours)


@FEW
@given(acyclic())
def test_without_its_redundant_edges_the_same_todos_wait_for_each_other(drawn: Drawn) -> None:
    graph = build(drawn.ecosystem, PLAN)

    redundant = set(graph.redundant)
    kept = {n: [a for a in graph.successors[n] if (n, a) not in redundant] for n in graph.todos}
    for name in graph.todos:
        assert reachable(name, kept) == reachable(name, graph.successors)
    for name, others in kept.items():
        for after in others:
            less = {**kept, name: [a for a in others if a != after]}
            assert after not in reachable(name, less), "an edge that was kept can go as well"


@FEW
@given(acyclic(issues=True))
def test_exactly_what_stands_behind_an_open_issue_is_blocked(drawn: Drawn) -> None:
    names = [t.id for t in drawn.ecosystem.coordination.todos]
    successors = {name: [b for a, b in drawn.edges if a == name] for name in names}
    held = {name for those in drawn.open_issues.values() for name in those}
    behind = {name for start in held for name in reachable(start, successors)}

    graph = build(drawn.ecosystem, PLAN)

    assert set(graph.blocked) == held | behind
    assert set(graph.unreachable) == behind - held
    assert set(graph.todos) == set(names) - held - behind
    assert all("ISSUE-" in reason for reason in graph.blocked.values())


@FEW
@given(acyclic(finished=True))
def test_completed_todos_leave_no_trace_in_the_graph(drawn: Drawn) -> None:
    todos = drawn.ecosystem.coordination.todos
    pending = {t.id for t in todos if t.status is TodoStatus.PENDING}

    graph = build(drawn.ecosystem, PLAN)

    assert set(graph.todos) == pending
    assert frozenset(graph.edges) == {(a, b) for a, b in drawn.edges if a in pending and b in pending}
    assert graph.done == len(todos) - len(pending)


@FEW
@given(acyclic(), st.data())
def test_a_selection_keeps_what_its_own_predecessors_allow(drawn: Drawn, data: st.DataObject) -> None:
    names = [t.id for t in drawn.ecosystem.coordination.todos]
    asked = data.draw(st.sets(st.sampled_from(names), min_size=1))

    graph = build(drawn.ecosystem, PLAN, Selectors(todos=asked))

    assert set(graph.todos) | set(graph.blocked) == asked
    for name in graph.todos:
        assert {a for a, b in drawn.edges if b == name} <= set(graph.todos)


@FEW
@given(acyclic(), st.data())
def test_a_planted_cycle_is_refused_and_its_path_is_real(drawn: Drawn, data: st.DataObject) -> None:
    todos = drawn.ecosystem.coordination.todos
    ring = data.draw(st.lists(st.sampled_from([t.id for t in todos]), min_size=1, max_size=4, unique=True))
    planted = set(pairwise([*ring, ring[0]]))
    closed = tuple(
        t.model_copy(update={"blocked_by": (*t.blocked_by, *(a for a, b in planted if b == t.id))})
        for t in todos
    )
    coordination = drawn.ecosystem.coordination.model_copy(update={"todos": closed})
    edges = drawn.edges | planted

    with pytest.raises(PlanRefused) as caught:
        build(drawn.ecosystem.model_copy(update={"coordination": coordination}), PLAN)

    paths = [found.split(" → ") for found in re.findall(r"a cycle: (.*?):", caught.value.message)]
    assert paths
    for path in paths:
        assert path[0] == path[-1]
        assert len(set(path)) == len(path) - 1
        assert all(edge in edges for edge in pairwise(path))
    successors = {t.id: [b for a, b in edges if a == t.id] for t in todos}
    knots = {frozenset({n} | {m for m in reachable(n, successors) if n in reachable(m, successors)})
             for n in successors if n in reachable(n, successors)}  # fmt: skip
    assert len(paths) == len(knots)
    for path in paths:
        knot = next(k for k in knots if path[0] in k)
        assert len(path) - 1 == min(shortest_through(name, successors) for name in knot)


def shortest_through(start: str, successors: Mapping[str, Collection[str]]) -> int:
    steps, seen, border = 0, set[str](), {start}
    while start not in seen:
        border = {after for name in border for after in successors[name]} - seen
        seen |= border
        steps += 1
    return steps
