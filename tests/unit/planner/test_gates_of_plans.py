"""Milestones that need an approval, in the graph of their plan."""

from __future__ import annotations

from typing import Any

import pytest
from planner_ecosystems import PLAN, ecosystem, todo

from coordination.charts import plan
from coordination.errors import PlanRefused
from coordination.models import Ecosystem, Issue, Milestone, Plan, TodoStatus
from coordination.planner.forecast import forecast
from coordination.planner.gates import MILESTONE_REPO
from coordination.planner.graph import build
from coordination.planner.schedule import simulate
from coordination.planner.selection import Selectors


def milestone(name: str = "M1", *dependencies: str, **fields: Any) -> Milestone:
    return Milestone(
        **{"id": name, "name": f"Reach {name}", "dependencies": dependencies, "gate": {}} | fields
    )


def with_milestones(*todos: Any, milestones: list[Milestone], **sections: Any) -> Ecosystem:
    return ecosystem(*todos, plan={"milestones": tuple(milestones)}, **sections)


def test_it_stands_between_what_it_depends_on_and_what_it_blocks() -> None:
    eco = with_milestones(
        todo("A"),
        todo("B", "A"),
        todo("C", "M1"),
        todo("D", blocking=("M1",)),
        milestones=[milestone("M1", "B")],
    )

    graph = build(eco, PLAN)

    assert graph.predecessors["M1"] == ("B", "D")
    assert graph.successors["M1"] == ("C",)
    assert graph.levels == (("A", "D"), ("B",), ("M1",), ("C",))
    assert (graph.milestones, graph.repos, graph.size) == (("M1",), ("core",), "4 todos and 1 milestone")
    assert graph.todos["M1"].repo == MILESTONE_REPO
    assert not graph.blocked


def test_without_a_gate_it_blocks_from_outside() -> None:
    graph = build(
        with_milestones(todo("A"), todo("C", "M1"), milestones=[milestone("M1", "A", gate=None)]), PLAN
    )

    assert graph.blocked == {"C": "M1 (pending: Reach M1)"}
    assert list(graph.todos) == ["A"]


def test_one_that_is_completed_holds_nothing_up() -> None:
    eco = with_milestones(todo("A"), todo("C", "M1"), milestones=[milestone(status=TodoStatus.COMPLETED)])

    assert set(build(eco, PLAN).todos) == {"A", "C"}


def test_what_blocks_it_from_outside_blocks_what_waits_for_it() -> None:
    eco = with_milestones(
        todo("A"),
        todo("C", "M1"),
        milestones=[milestone("M1", "ISSUE-1")],
        issues=(Issue(id="ISSUE-1", title="A flaw"),),
    )

    graph = build(eco, PLAN)

    assert graph.blocked["M1"] == "ISSUE-1 (pending: A flaw)"
    assert graph.blocked["C"] == "M1, which is blocked by ISSUE-1"
    assert list(graph.todos) == ["A"]


def test_of_a_narrowed_sweep_only_those_before_it_take_part() -> None:
    eco = with_milestones(
        todo("A"),
        todo("B", "M1"),
        todo("C", "M3"),
        milestones=[milestone("M1"), milestone("M2", "A"), milestone("M3", "M1")],
    )

    assert set(build(eco, PLAN, Selectors(todos=["A"])).todos) == {"A"}
    assert set(build(eco, PLAN, Selectors(todos=["B"])).todos) == {"B", "M1"}
    assert set(build(eco, PLAN, Selectors(todos=["C"])).todos) == {"C", "M1", "M3"}
    assert set(build(eco, PLAN).todos) == {"A", "B", "C", "M1", "M2", "M3"}


def test_one_whose_todos_are_not_all_swept_is_blocked_by_the_rest() -> None:
    eco = with_milestones(todo("A"), todo("B", "M1"), todo("C"), milestones=[milestone("M1", "A")])

    graph = build(eco, PLAN, Selectors(todos=["B", "C"]))

    assert graph.blocked["M1"] == "A, which is not part of this sweep"
    assert set(graph.blocked) == {"B", "M1"}


def test_nobody_is_asked_where_nothing_can_follow() -> None:
    eco = with_milestones(
        todo("A", "ISSUE-1"), milestones=[milestone("M1")], issues=(Issue(id="ISSUE-1", title="A flaw"),)
    )
    done = with_milestones(todo("A", status=TodoStatus.COMPLETED), milestones=[milestone("M1", "A")])

    assert not build(eco, PLAN).todos
    assert build(done, PLAN).nothing_to_do == "the one todo of PLAN-001 is completed or cancelled"


def test_a_milestone_of_another_plan_blocks_from_outside_and_its_name_may_be_the_same() -> None:
    other = Plan(id="PLAN-002", title="Another", milestones=(milestone("M1"), milestone("M9")))
    eco = with_milestones(todo("A", "M1"), todo("B", "M9"), milestones=[milestone("M1")], plans=(other,))

    graph = build(eco, PLAN)

    assert set(graph.todos) == {"M1", "A"}
    assert graph.blocked == {"B": "M9 (pending: Reach M9)"}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (milestone("M1", "A", "NOBODY"), "M1 is blocked by 'NOBODY', which the file does not declare"),
        (milestone("M1", "C"), "a cycle: "),
        (milestone("A"), "milestone A has a gate, and something else has that id, too"),
        (milestone(status=TodoStatus.CANCELLED), "M1 is cancelled, but C waits for it"),
    ],
)
def test_a_plan_whose_milestone_is_wrong_is_refused(found: Milestone, words: str) -> None:
    eco = with_milestones(
        todo("A"), todo("C", "M1", "A"), milestones=[milestone("M1"), found][found.id == "M1" :]
    )

    with pytest.raises(PlanRefused) as caught:
        build(eco, PLAN)

    assert words in caught.value.message


def test_an_approval_takes_no_time_no_slot_and_no_repo() -> None:
    eco = with_milestones(
        todo("A", estimated_hours=1),
        todo("LONG", estimated_hours=8, repo="core"),
        todo("B", "M1", estimated_hours=1, repo="web"),
        milestones=[milestone("M1", "A")],
    )
    graph = build(eco, PLAN)

    foreseen = forecast(graph, max_parallel=1)

    assert (foreseen.work_h, foreseen.dataflow_h, foreseen.assumed) == (10, 10, 0)
    assert (graph.hours["M1"], foreseen.approvals) == (0, 1)
    busy = simulate({"A": 1, "M1": 0, "M2": 0, "B": 1}, {"M1": ("A",), "M2": ("M1",), "B": ("M2",)},
                    {"A": "x", "M1": "-", "M2": "-", "B": "x"}, slots=1)  # fmt: skip
    assert (busy.start["M2"], busy.end["B"]) == (1, 2)


def test_it_is_drawn_as_what_it_is() -> None:
    eco = with_milestones(
        todo("A"), todo("B", "M1", gate={"timeout": "1h"}), milestones=[milestone("M1", "A")]
    )
    graph = build(eco, PLAN)

    tree, mermaid, dot, data = (plan.tree(graph), plan.mermaid(graph), plan.dot(graph), plan.json(graph))

    assert "2 todos and 1 milestone in 3 levels" in tree
    assert any(line.split()[:3] == ["*", "└─", "M1"] and "approval" in line for line in tree.splitlines()), (
        tree
    )
    assert "(after an approval)" in next(line for line in tree.splitlines() if "Do B" in line)
    assert 't1{{"M1<br/>Reach M1<br/>approval"}}' in mermaid
    assert mermaid.count("subgraph") == 1
    assert '"M1" [label="M1\\nReach M1\\napproval", shape=hexagon' in dot
    rows = {row["id"]: row for row in data["todos"]}
    assert (rows["M1"]["milestone"], rows["M1"]["hours"], rows["M1"]["gate"]["on_timeout"]) == (
        True,
        0,
        "reject",
    )
    assert (rows["B"]["milestone"], rows["B"]["gate"]) == (
        False,
        {"timeout_s": 3600.0, "on_timeout": "reject"},
    )
    assert rows["A"]["gate"] is None
