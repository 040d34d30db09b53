"""The bottleneck of a plan, and what more of something would save."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_ecosystems import PLAN, Drawn, acyclic, ecosystem, todo

from coordination.models import Ecosystem, Resource, Strategy
from coordination.planner.forecast import choose_strategy, forecast
from coordination.planner.graph import build
from coordination.planner.wait_chain import Cause, Run, chain

FEW = settings(max_examples=60)
REPOS = ("core", "parser", "web")


def with_resources(eco: Ecosystem, **capacities: int) -> Ecosystem:
    return eco.model_copy(
        update={"resources": tuple(Resource(name=n, capacity=c) for n, c in capacities.items())}
    )


def test_where_each_waits_for_the_one_before_it_is_the_path():
    foreseen = forecast(build(ecosystem(todo("A", estimated_hours=3), todo("B", "A", repo="web")), PLAN))

    assert foreseen.bottleneck
    assert (foreseen.bottleneck.kind, foreseen.bottleneck.hours, foreseen.bottleneck.seen_in) == (
        "path",
        6,
        "bound",
    )
    assert [(one.id, one.repo, one.hours) for one in foreseen.critical_path] == [
        ("A", "core", 3),
        ("B", "web", 3),
    ]
    assert foreseen.one_more_slot
    assert foreseen.one_more_slot.saves_h == 0


def test_where_one_repository_has_most_of_the_work_is_that_repository():
    foreseen = forecast(build(ecosystem(todo("A"), todo("B"), todo("C"), todo("D", repo="web")), PLAN))

    assert foreseen.bottleneck
    assert (foreseen.bottleneck.kind, foreseen.bottleneck.name, foreseen.bottleneck.hours) == (
        "repo",
        "core",
        3,
    )
    assert foreseen.bottleneck.reason == "repository core: 3 h of work, one todo at a time"


def test_where_there_is_work_for_more_are_the_slots_and_one_more_saves_what_the_simulation_says():
    eco = ecosystem(*(todo(repo, repo=repo, estimated_hours=2) for repo in REPOS), plan={"max_parallel": 1})
    foreseen = forecast(build(eco, PLAN))

    assert foreseen.bottleneck
    assert (foreseen.bottleneck.kind, foreseen.bottleneck.hours) == ("slots", 6)
    assert foreseen.bottleneck.reason == "the one slot: 6 h of work, 1 at once"
    assert foreseen.one_more_slot
    assert (foreseen.one_more_slot.hours, foreseen.one_more_slot.saves_h) == (4, 2)


def test_where_a_resource_is_scarce_one_more_of_it_is_tried():
    needing = (todo(repo, repo=repo, estimated_hours=2, resources=("db",)) for repo in REPOS)
    foreseen = forecast(build(with_resources(ecosystem(*needing), db=1), PLAN))

    assert foreseen.bottleneck
    assert (foreseen.bottleneck.kind, foreseen.bottleneck.name, foreseen.bottleneck.hours) == (
        "resource",
        "db",
        6,
    )
    assert foreseen.one_more_resource
    assert (foreseen.one_more_resource.of, foreseen.one_more_resource.hours) == ("db", 4)
    assert foreseen.one_more_slot
    assert foreseen.one_more_slot.saves_h == 0


def test_where_a_schedule_takes_longer_than_the_bound_is_what_was_waited_for():
    eco = ecosystem(
        todo("A1", estimated_hours=4, repo="core"),
        todo("A2", "A1", estimated_hours=1, repo="core"),
        todo("B1", estimated_hours=1, repo="web"),
        todo("B2", "B1", estimated_hours=4, repo="web"),
    )
    foreseen = forecast(build(eco, PLAN), strategy=Strategy.LEVELS)

    assert foreseen.bottleneck
    assert (foreseen.bottleneck.kind, foreseen.bottleneck.seen_in) == ("level", "simulation")
    assert foreseen.bottleneck.reason == (
        "the barriers between levels: waited for during 4 h of the 8 h (no schedule could take less than 5 h)"
    )


def test_an_empty_plan_has_no_bottleneck():
    foreseen = forecast(build(ecosystem(), PLAN))

    assert (foreseen.bottleneck, foreseen.one_more_slot, foreseen.critical_path) == (None, None, ())


def test_what_a_person_does_holds_up_no_slot_and_no_repository():
    eco = ecosystem(
        todo("by-hand", estimated_hours=5, action={"type": "manual"}), todo("A", estimated_hours=2)
    )
    foreseen = forecast(build(eco, PLAN))

    assert (foreseen.dataflow_h, foreseen.bound_h, foreseen.busiest_repo_h, foreseen.slots) == (5, 5, 2, 1)


@FEW
@given(
    acyclic(),
    st.integers(1, 3),
    st.integers(1, 2),
    st.sampled_from([Strategy.LEVELS, Strategy.DATAFLOW]),
    st.data(),
)
def test_the_hours_of_the_chain_add_up_to_the_makespan(
    drawn: Drawn, slots: int, gpus: int, strategy: Strategy, data: st.DataObject
) -> None:
    amounts = {one.id: data.draw(st.integers(0, gpus)) for one in drawn.ecosystem.coordination.todos}
    todos = tuple(
        one.model_validate({**one.model_dump(),
            "resources": [{"name": "gpu", "amount": amounts[one.id]}] if amounts[one.id] else []})
        for one in drawn.ecosystem.coordination.todos
    )  # fmt: skip
    graph = build(with_resources(drawn.ecosystem.with_coordination(todos=todos), gpu=gpus), PLAN)
    schedule = choose_strategy(graph, max_parallel=slots, strategy=strategy).taken

    links = chain(
        Run(schedule=schedule, predecessors=graph.predecessors, repo_of=graph.repo_of, supply=graph.supply)
    )

    assert sum(link.hours for link in links) == pytest.approx(schedule.makespan)
    assert all(schedule.end[a.todo] == schedule.start[b.todo] for a, b in pairwise(links))
    assert links[-1].cause is Cause.PATH
    assert {link.cause for link in links} <= set(Cause) - (
        {Cause.LEVEL} if strategy is Strategy.DATAFLOW else set()
    )
    foreseen = forecast(graph, max_parallel=slots, strategy=strategy)
    assert foreseen.bottleneck
    assert foreseen.bound_h <= schedule.makespan + 1e-6 or slots > foreseen.slots
