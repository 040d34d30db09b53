"""Milestones that need an approval, in the graph of their plan."""

from __future__ import annotations

from typing import Any

import pytest
from planner_ecosystems import PLAN, ecosystem, todo

from coordination.charts import plan
from coordination.charts.plan import plan_data
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


FLAW = {"issues": (Issue(id="ISSUE-1", title="A flaw"),)}
OTHER = Plan(id="PLAN-002", title="Another", milestones=(milestone("M1"), milestone("M9")))
NARROWED = with_milestones(
    *(todo("A"), todo("B", "M1"), todo("C", "M3")),
    milestones=[milestone("M1"), milestone("M2", "A"), milestone("M3", "M1")],
)
PARTS: dict[str, tuple[Ecosystem, str, str, dict[str, str]]] = {
    "without a gate it blocks from outside": (
        with_milestones(todo("A"), todo("C", "M1"), milestones=[milestone("M1", "A", gate=None)]),
        *("", "A", {"C": "M1 (pending: Reach M1)"}),
    ),
    "one that is completed holds nothing up": (
        with_milestones(todo("A"), todo("C", "M1"), milestones=[milestone(status=TodoStatus.COMPLETED)]),
        *("", "A C", {}),
    ),
    "one that is blocked from outside blocks its dependents": (
        with_milestones(todo("A"), todo("C", "M1"), milestones=[milestone("M1", "ISSUE-1")], **FLAW),
        *("", "A", {"M1": "ISSUE-1 (pending: A flaw)", "C": "M1, which is blocked by ISSUE-1"}),
    ),
    "a whole sweep": (NARROWED, "", "A B C M1 M2 M3", {}),
    "a narrowed sweep without one": (NARROWED, "A", "A", {}),
    "a narrowed sweep with one before it": (NARROWED, "B", "B M1", {}),
    "a narrowed sweep with two before it": (NARROWED, "C", "C M1 M3", {}),
    "one whose todos are not all swept": (
        with_milestones(todo("A"), todo("B", "M1"), todo("C"), milestones=[milestone("M1", "A")]),
        *("B C", "C", {"M1": "A, which is not part of this sweep", "B": "M1, which is blocked by A"}),
    ),
    "one of another plan, and one of the same name": (
        with_milestones(todo("A", "M1"), todo("B", "M9"), milestones=[milestone("M1")], plans=(OTHER,)),
        *("", "A M1", {"B": "M9 (pending: Reach M9)"}),
    ),
    "a cycle that only a gate waits for which is not needed": (
        with_milestones(todo("A"), todo("B", "C"), todo("C", "B"), milestones=[milestone("M1", "B")]),
        *("A", "A", {}),
    ),
    "nobody is asked where nothing can follow": (
        with_milestones(todo("A", "ISSUE-1"), milestones=[milestone("M1")], **FLAW),
        *("", "", {"A": "ISSUE-1 (pending: A flaw)"}),
    ),
}


@pytest.mark.parametrize(("eco", "selected", "todos", "blocked"), PARTS.values(), ids=PARTS)
def test_milestones_that_take_part(
    eco: Ecosystem, selected: str, todos: str, blocked: dict[str, str]
) -> None:
    graph = build(eco, PLAN, Selectors(todos=selected.split()) if selected else Selectors())

    assert (set(graph.todos), graph.blocked) == (set(todos.split()), blocked)


def test_a_plan_whose_todos_are_done_has_nothing_to_do() -> None:
    done = with_milestones(todo("A", status=TodoStatus.COMPLETED), milestones=[milestone("M1", "A")])
    assert build(done, PLAN).nothing_to_do == "the one todo of PLAN-001 is completed or cancelled"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (milestone("M1", "A", "NOBODY"), "M1 is blocked by 'NOBODY', which the file does not declare"),
        (milestone("M1", "C"), "a cycle: "),
        (milestone("A"), "milestone A has a gate, and another record has that id, too"),
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

    tree, mermaid, dot, data = (plan.tree(graph), plan.mermaid(graph), plan.dot(graph), plan_data(graph))

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
