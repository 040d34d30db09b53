"""The bottleneck of a plan, and what more of something would save."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_ecosystems import PLAN, Drawn, acyclic, ecosystem, todo

from coordination.models import Ecosystem, Resource, Strategy
from coordination.planner.forecast import Cause, Simulation, chain, forecast
from coordination.planner.graph import build
from coordination.planner.strategy import choose_strategy
from tests.examples import examples

FEW = settings(max_examples=examples(60))
REPOS = ("core", "parser", "web")


def with_resources(eco: Ecosystem, **capacities: int) -> Ecosystem:
    return eco.model_copy(
        update={"resources": tuple(Resource(name=n, capacity=c) for n, c in capacities.items())}
    )


UNEVEN = ecosystem(
    todo("A1", estimated_hours=4),
    todo("A2", "A1", estimated_hours=1),
    todo("B1", estimated_hours=1, repo="web"),
    todo("B2", "B1", estimated_hours=4, repo="web"),
)
NEEDING = tuple(todo(repo, repo=repo, estimated_hours=2, resources=("db",)) for repo in REPOS)
FOUND: dict[str, tuple[Ecosystem, Strategy | None, dict[str, object]]] = {
    "the path, where each todo waits for the one before it": (
        ecosystem(todo("A", estimated_hours=3), todo("B", "A", repo="web")),
        None,
        {"kind": "path", "hours": 6, "seen_in": "bound", "slot": 0},
    ),
    "the repository with most of the work": (
        ecosystem(todo("A"), todo("B"), todo("C"), todo("D", repo="web")),
        None,
        {
            "kind": "repo",
            "name": "core",
            "hours": 3,
            "reason": "repository core: 3 h of work, one todo at a time",
        },
    ),
    "the slots, where there is work for more": (
        ecosystem(*(todo(repo, repo=repo, estimated_hours=2) for repo in REPOS), plan={"max_parallel": 1}),
        None,
        {"kind": "slots", "hours": 6, "reason": "the one slot: 6 h of work, 1 at once", "slot": 2},
    ),
    "a scarce resource": (
        with_resources(ecosystem(*NEEDING), db=1),
        None,
        {"kind": "resource", "name": "db", "hours": 6, "slot": 0, "resource": ("db", 4)},
    ),
    "the barriers of levels, where the schedule takes longer than the bound": (
        UNEVEN,
        Strategy.LEVELS,
        {
            "kind": "level",
            "seen_in": "simulation",
            "reason": "the barriers between levels: waited for during 4 h of the 8 h "
            "(no schedule could take less than 5 h)",
        },
    ),
}


@pytest.mark.parametrize(("eco", "strategy", "facts"), FOUND.values(), ids=FOUND)
def test_a_bottleneck_is(eco: Ecosystem, strategy: Strategy | None, facts: dict[str, object]):
    foreseen = forecast(build(eco, PLAN), **({"strategy": strategy} if strategy else {}))
    slot, more = foreseen.one_more_slot, foreseen.one_more_resource

    found = {
        name: getattr(foreseen.bottleneck, name) for name in ("kind", "name", "hours", "seen_in", "reason")
    }
    found |= {"slot": slot and slot.saves_h, "resource": more and (more.of, more.hours)}
    assert {name: found[name] for name in facts} == facts
    if facts["kind"] == "path":
        path = [(one.id, one.repo, one.hours) for one in foreseen.critical_path]
        assert path == [("A", "core", 3), ("B", "web", 3)]


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
        Simulation(
            schedule=schedule, predecessors=graph.predecessors, repo_of=graph.repo_of, supply=graph.supply
        )
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
