from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_ecosystems import PLAN, Drawn, acyclic, ecosystem, todo

from coordination.models import Resource, Strategy
from coordination.planner.forecast import forecast
from coordination.planner.graph import PlanGraph, alone, build
from coordination.planner.schedule import (
    Schedule,
    Supply,
    bound,
    busiest_repo,
    busiest_resource,
    simulate,
    slots_for,
)
from coordination.planner.strategy import choose, choose_strategy
from tests.examples import examples

FEW = settings(max_examples=examples(60))


def test_two_chains_of_uneven_steps_are_faster_by_dataflow() -> None:
    eco = ecosystem(
        todo("A1", estimated_hours=4, repo="core"),
        todo("A2", "A1", estimated_hours=1, repo="core"),
        todo("B1", estimated_hours=1, repo="web"),
        todo("B2", "B1", estimated_hours=4, repo="web"),
    )

    foreseen = forecast(build(eco, PLAN))

    assert (foreseen.levels_h, foreseen.dataflow_h, foreseen.bound_h) == (8, 5, 5)
    assert foreseen.strategy is Strategy.DATAFLOW
    assert foreseen.reason == "dataflow (60% faster); estimates: levels 8 h, dataflow 5 h"


def test_one_todo_without_an_estimate_is_executed_without_a_duration_of_ours() -> None:
    eco = ecosystem(todo("A"))

    assert "1 h" not in choose_strategy(alone(eco, eco.coordination.todos[0])).reason


def test_a_chain_takes_levels_since_nothing_is_gained() -> None:
    foreseen = forecast(build(ecosystem(todo("A"), todo("B", "A")), PLAN))

    assert foreseen.strategy is Strategy.LEVELS
    assert foreseen.reason == "levels (dataflow is no faster); no todo has an estimate"
    assert (foreseen.assumed, foreseen.assumed_h) == (2, 1)
    assert (foreseen.slots, foreseen.busiest_repo, foreseen.busiest_repo_h) == (1, "core", 2)
    estimated = forecast(build(ecosystem(todo("A"), todo("B", "A", estimated_hours=2)), PLAN))
    assert estimated.reason == "levels (dataflow is no faster); estimate 4 h"
    empty = forecast(build(ecosystem(), PLAN))
    assert (empty.levels_h, empty.dataflow_h, empty.bound_h, empty.busiest_repo) == (0, 0, 0, "")


def test_the_plans_max_parallel_counts_unless_the_call_says_otherwise() -> None:
    eco = ecosystem(todo("A"), todo("B", repo="web"), todo("C", repo="parser"), plan={"max_parallel": 1})
    graph = build(eco, PLAN)

    assert forecast(graph).dataflow_h == 3
    assert forecast(graph, max_parallel=2).dataflow_h == 2


def test_a_strategy_that_was_asked_for_is_taken_even_if_it_is_slower() -> None:
    eco = ecosystem(
        todo("A", estimated_hours=9),
        todo("B", repo="web", estimated_hours=1),
        todo("C", "B", repo="web", estimated_hours=9),
        plan={"strategy": "levels"},
    )

    assert forecast(build(eco, PLAN)).strategy is Strategy.LEVELS
    assert forecast(build(eco, PLAN), strategy=Strategy.DATAFLOW).strategy is Strategy.DATAFLOW


@pytest.mark.parametrize(
    ("levels", "dataflow", "chosen"),
    [
        pytest.param(10.0, 10.0, Strategy.LEVELS, id="the same"),
        pytest.param(10.5, 10.0, Strategy.LEVELS, id="5 % faster is not more than 5 %"),
        pytest.param(10.51, 10.0, Strategy.DATAFLOW, id="more than 5 % faster"),
        pytest.param(9.0, 10.0, Strategy.LEVELS, id="slower"),
        pytest.param(0.0, 0.0, Strategy.LEVELS, id="nothing to do"),
    ],
)
def test_auto_takes_dataflow_only_beyond_the_margin(levels: float, dataflow: float, chosen: Strategy) -> None:
    strategy, reason = choose(Strategy.AUTO, levels, dataflow, 0.05)

    assert strategy is chosen
    assert reason.startswith(chosen)


@pytest.mark.parametrize(
    ("repos", "max_parallel", "slots"), [(5, None, 5), (5, 2, 2), (2, 5, 2), (0, None, 1), (0, 3, 1)]
)
def test_slots_are_one_for_each_repo_or_fewer(repos: int, max_parallel: int | None, slots: int) -> None:
    assert slots_for([f"repo-{i}" for i in range(repos)], max_parallel) == slots


def test_the_bound_is_the_largest_of_path_work_per_slot_and_busiest_repo() -> None:
    durations = {"a": 3.0, "b": 1.0, "c": 1.0}
    apart = {"a": "x", "b": "y", "c": "z"}

    assert bound(durations, {"a": (), "b": (), "c": ()}, apart, slots=3) == 3
    assert bound(durations, {"a": (), "b": ("a",), "c": ()}, apart, slots=3) == 4
    assert bound(durations, {}, apart, slots=1) == 5
    assert bound(durations, {}, dict.fromkeys(durations, "x"), slots=3) == 5


def test_a_todo_that_never_ran_counts_for_nothing_in_the_bound() -> None:
    predecessors = {"a": (), "skipped": ("a",), "c": ("skipped",)}

    assert bound({"a": 1.0, "c": 2.0}, predecessors, {"a": "x", "c": "y"}, slots=2) == 3


def test_no_slot_is_an_error_rather_than_an_endless_run() -> None:
    with pytest.raises(ValueError, match="slot"):
        simulate({"a": 1.0}, {}, {"a": "x"}, slots=0)


def test_the_most_urgent_goes_first_where_a_repo_is_contested() -> None:
    schedule = simulate(
        {"a": 1.0, "b": 1.0, "c": 1.0},
        {},
        dict.fromkeys("abc", "x"),
        slots=3,
        urgency={"a": 2, "b": 0, "c": 1},
    )

    assert schedule.start == {"b": 0, "c": 1, "a": 2}


def repo_of(graph: PlanGraph) -> dict[str, str]:
    return {name: t.repo for name, t in graph.todos.items()}


def check(schedule: Schedule, graph: PlanGraph, slots: int) -> None:
    """Check the invariants of each schedule: all of the work, its order, one todo to a repo, and no more than
    the slots.
    """
    assert set(schedule.start) == set(graph.todos)
    for name in graph.todos:
        assert schedule.end[name] == pytest.approx(schedule.start[name] + graph.hours[name])
        assert all(schedule.end[before] <= schedule.start[name] + 1e-9 for before in graph.predecessors[name])
        at_once = [n for n in graph.todos if schedule.start[n] <= schedule.start[name] < schedule.end[n]]
        assert len(at_once) <= slots
        assert len({graph.todos[n].repo for n in at_once}) == len(at_once)


def test_todos_that_share_a_resource_take_turns() -> None:
    needs = ("db", {"name": "gpu", "amount": 2})
    apart = [
        todo(f"T{repo}", repo=repo, estimated_hours=2, resources=needs) for repo in ("core", "parser", "web")
    ]
    resources = (Resource(name="db"), Resource(name="gpu", capacity=4))
    eco = ecosystem(*apart).model_copy(update={"resources": resources})

    foreseen = forecast(build(eco, PLAN))

    assert (foreseen.levels_h, foreseen.dataflow_h, foreseen.bound_h) == (6, 6, 6)
    assert (foreseen.busiest_resource, foreseen.busiest_resource_h) == ("db", 6)
    assert foreseen.slots == 3


@FEW
@given(acyclic(), st.none() | st.integers(1, 4), st.none() | st.integers(1, 4), st.data())
def test_no_simulated_schedule_breaks_order_repo_slots_or_capacity(
    drawn: Drawn, max_parallel: int | None, gpus: int | None, data: st.DataObject
) -> None:
    graph = build(drawn.ecosystem, PLAN)
    needs = {name: {"gpu": data.draw(st.integers(1, gpus))} for name in graph.todos} if gpus else {}
    supply = Supply(capacities={"gpu": gpus or 0}, needs=needs)
    slots = slots_for(graph.repos, max_parallel)
    how = {"slots": slots, "supply": supply}

    for schedule in (
        simulate(graph.hours, graph.predecessors, repo_of(graph), urgency=graph.order, **how),
        simulate(graph.hours, {}, repo_of(graph), levels=graph.levels, **how),
    ):
        check(schedule, graph, slots)
        for name in needs:
            now = schedule.start[name]
            assert sum(needs[n]["gpu"] for n in needs if schedule.start[n] <= now < schedule.end[n]) <= gpus
        assert busiest_resource(graph.hours, supply)[1] <= schedule.makespan + 1e-6
    assert busiest_repo(graph.hours, repo_of(graph))[0] in graph.repos


@FEW
@given(acyclic(), st.integers(1, 4))
def test_every_strategy_stays_between_the_bound_and_all_in_sequence(drawn: Drawn, max_parallel: int) -> None:
    foreseen = forecast(build(drawn.ecosystem, PLAN), max_parallel=max_parallel)

    for hours in (foreseen.levels_h, foreseen.dataflow_h):
        assert foreseen.bound_h <= hours + 1e-6
        assert hours <= foreseen.work_h + 1e-6
    assert foreseen.critical_h <= foreseen.bound_h + 1e-6
    assert foreseen.busiest_repo_h <= foreseen.bound_h + 1e-6
