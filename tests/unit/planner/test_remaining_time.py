"""Percent and the rest of a run, over simulated runs of any shape."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_ecosystems import PLAN, Drawn, acyclic

from coordination.planner.gates import MILESTONE_REPO
from coordination.planner.graph import PlanGraph, build
from coordination.planner.remaining import (
    LATE,
    SIMULATED,
    Basis,
    Expected,
    OpenTodo,
    Pace,
    expected_of,
    percent,
    rest_s,
)
from coordination.planner.schedule import bound, simulate
from tests import plans
from tests.examples import examples

MANY = settings(max_examples=examples(120), deadline=None)


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look at a simulated run."""

    at_s: float
    percent: float
    left_s: float | None
    lost: bool
    """An attempt was lost since the look before."""


class Played:
    """A run that is executed by the rules of `simulate`, with actual durations that differ from the expected
    ones, and attempts that are lost.
    """

    def __init__(self, graph: PlanGraph, dice: random.Random, *, slots: int, lose: float) -> None:
        self._graph, self._slots = graph, slots
        self.expected = expected_of(graph)
        actual = {
            name: 0.0
            if graph.repo_of[name] == MILESTONE_REPO
            else it.seconds * dice.choice([0, 0.01, 0.5, 1, 3])
            for name, it in self.expected.items()
        }
        lost = {name: dice.random() < lose for name in actual}
        whole = {name: 2 * took if lost[name] else took for name, took in actual.items()}
        schedule = simulate(whole, graph.predecessors, graph.repo_of, slots=slots, urgency=graph.order)
        self._start, self.end = schedule.start, schedule.end
        self._again = {n: schedule.start[n] + actual[n] for n in actual if lost[n] and actual[n]}
        self._took = actual
        self.total_s = sum(it.seconds for it in self.expected.values())

    def looks(self, count: int) -> Iterator[Look]:
        last = max(self.end.values(), default=0.0)
        before = -1.0
        for i in range(count):
            at = last * i / count
            lost = any(before < again <= at for again in self._again.values())
            yield Look(at_s=at, percent=self._percent(at), left_s=self._left(at), lost=lost)
            before = at

    def _open(self, at: float) -> dict[str, OpenTodo]:
        graph = self._graph
        return {
            name: OpenTodo(
                expected=self.expected[name],
                repo=graph.repo_of[name],
                level=graph.depth[name],
                order=graph.order[name],
                elapsed_s=self._elapsed(name, at),
            )
            for name in graph.todos
            if self.end[name] > at
        }

    def _elapsed(self, name: str, at: float) -> float | None:
        if self._start[name] > at:
            return None
        again = self._again.get(name)
        return at - (again if again is not None and again <= at else self._start[name])

    def _percent(self, at: float) -> float:
        todos = self._open(at)
        return percent(
            total_s=self.total_s,
            ended_s=sum(it.seconds for name, it in self.expected.items() if name not in todos),
            running=[todo for todo in todos.values() if todo.elapsed_s is not None],
            todos=len(self.expected),
            ended=len(self.expected) - len(todos),
        )

    def _left(self, at: float) -> float | None:
        pace = Pace()
        return rest_s(
            self._open(at), self._graph.predecessors, slots=self._slots, by_level=at % 2 < 1, pace=pace
        )


@MANY
@given(acyclic(), st.integers(1, 4), st.integers(0, 10**6), st.sampled_from([0.0, 0.3]))
def test_percent_falls_only_with_a_lost_attempt_and_the_end_is_never_in_the_past(
    drawn: Drawn, slots: int, seed: int, lose: float
) -> None:
    """Durations of 0, retries, gates and wrong estimates included."""
    graph = build(drawn.ecosystem, PLAN)
    played = Played(graph, random.Random(seed), slots=slots, lose=lose)
    highest = 0.0

    for look in played.looks(25):
        assert 0.0 <= look.percent < 100.0
        assert look.left_s is None or look.left_s >= 0.0
        assert look.percent >= highest or look.lost
        highest = look.percent


@MANY
@given(acyclic(), st.integers(1, 4))
def test_the_rest_of_a_run_that_has_not_begun_is_between_its_bounds(drawn: Drawn, slots: int) -> None:
    graph = build(drawn.ecosystem, PLAN)
    todos = unbegun(graph)
    if any(todo.expected.source is Basis.UNKNOWN for todo in todos.values()):
        assert rest_s(todos, graph.predecessors, slots=slots, by_level=False, pace=Pace()) is None
        return

    found = rest_s(todos, graph.predecessors, slots=slots, by_level=False, pace=Pace())

    hours = {name: it.expected.seconds / 3600 for name, it in todos.items()}
    least = bound(hours, graph.predecessors, graph.repo_of, slots)
    assert found is not None
    assert least - 1e-6 <= found / 3600 <= sum(hours.values()) + 1e-6


def unbegun(graph: PlanGraph) -> dict[str, OpenTodo]:
    expected = expected_of(graph)
    return {
        name: OpenTodo(
            expected=expected[name],
            repo=graph.repo_of[name],
            level=graph.depth[name],
            order=graph.order[name],
        )
        for name in graph.todos
    }


def one(source: Basis = Basis.ESTIMATED, seconds: float = 60.0, elapsed_s: float | None = None) -> OpenTodo:
    return OpenTodo(
        expected=Expected(seconds=seconds, source=source), repo="api", level=0, order=0, elapsed_s=elapsed_s
    )


def left(todo: OpenTodo, pace: Pace) -> float | None:
    return rest_s({"A": todo}, {"A": ()}, slots=1, by_level=False, pace=pace)


def test_each_source_is_corrected_by_its_own_todos():
    """Estimates by the first one that ends; two learned durations more count against one that is off."""
    slow = dict.fromkeys(Basis, 2.302585)
    once = Pace(todos=dict.fromkeys(Basis, 1), logs=slow)

    assert left(one(Basis.ESTIMATED), once) == pytest.approx(600)
    assert left(one(Basis.LEARNED), once) == pytest.approx(60 * 10 ** (1 / 3), rel=1e-3)
    assert left(one(Basis.UNKNOWN), once) == pytest.approx(600)
    assert left(one(Basis.UNKNOWN), Pace()) is None


def test_an_assumed_duration_is_corrected_like_those_that_it_was_made_of():
    pace = Pace(todos={Basis.ESTIMATED: 2}, logs={Basis.ESTIMATED: 2 * 2.302585})

    assert left(one(Basis.ASSUMED), pace) == pytest.approx(600, rel=1e-3)


def test_an_overdue_todo_takes_a_tenth_longer_and_slows_the_others_down():
    late = one(seconds=60, elapsed_s=600)
    waiting = replace(one(seconds=60), repo="web")

    found = rest_s({"A": late, "B": waiting}, {"A": (), "B": ("A",)}, slots=2, by_level=False, pace=Pace())

    assert left(late, Pace()) == pytest.approx(60)
    assert found == pytest.approx(60 + 600), "B is expected to take as much longer"
    assert percent(total_s=120, ended_s=0, running=[late]) == 100 * LATE / 2


@pytest.mark.parametrize(
    ("seconds", "elapsed_s", "logs"),
    [
        (0.0, 0.0, 0.0),
        (0.0, 1e9, 0.0),
        (3.6e7, 0.0, 700.0),
        (3.6e7, -50.0, -700.0),
        (1.0, 1e12, float("nan")),
    ],
)
def test_extreme_durations_and_a_clock_that_was_set_back_give_figures(
    seconds: float, elapsed_s: float, logs: float
):
    todo = one(seconds=seconds, elapsed_s=elapsed_s)
    found = left(todo, Pace(todos={Basis.ESTIMATED: 1}, logs={Basis.ESTIMATED: logs}))

    assert found is not None
    assert 0 <= found < 1e12
    assert 0 <= percent(total_s=seconds, ended_s=0, running=[todo], todos=1) <= 99.9


def test_milestones_count_nothing_and_unestimated_todos_the_median():
    eco = plans.ecosystem(
        {"A": "api", "B": "api", "C": "api"}, A={"estimated_hours": 1}, B={"estimated_hours": 3}
    )
    graph = build(eco, plans.PLAN)

    found = expected_of(graph)

    assert {name: (it.seconds / 3600, it.source) for name, it in found.items()} == {
        "A": (1, Basis.ESTIMATED),
        "B": (3, Basis.ESTIMATED),
        "C": (2, Basis.ASSUMED),
    }
    assert all(Expected.parse(str(it)) == it for it in found.values())
    assert {it.source for it in expected_of(plans.graph({"A": "api"})).values()} == {Basis.UNKNOWN}


def test_learned_durations_are_named_as_such_and_tell_the_others():
    graph = replace(plans.graph({"A": "api", "B": "web"}), learned={"A": 0.5})

    found = expected_of(graph)

    assert [(it.seconds, it.source) for it in found.values()] == [
        (1800, Basis.LEARNED),
        (1800, Basis.ASSUMED),
    ]


def test_the_rest_of_50_000_todos_costs_little_more_than_looking_at_each():
    """Beyond SIMULATED todos the rest is a bound, in linear time: the ratio says so on any machine."""
    many = 25 * SIMULATED
    todos = {f"T{i}": replace(one(), repo=f"r{i % 50}") for i in range(many)}
    before = {f"T{i}": tuple(f"T{j}" for j in (i - 7, i - 50) if j >= 0) for i in range(many)}

    def cost(names: int) -> float:
        part = dict(list(todos.items())[:names])
        started = process_time()
        assert rest_s(part, before, slots=20, by_level=False, pace=Pace())
        return process_time() - started

    assert cost(many) < 40 * cost(many // 10)
