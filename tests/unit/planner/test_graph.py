from __future__ import annotations

from typing import Any

import pytest
from planner_ecosystems import PLAN, ecosystem, todo

from coordination.errors import PlanRefused
from coordination.models import Ecosystem, Issue, Milestone, Plan
from coordination.planner.graph import build


def issue(name: str = "ISSUE-003", **fields: Any) -> Issue:
    return Issue(**{"id": name, "title": "Fix the parser", "status": "in_progress"} | fields)


def refusal(eco: Ecosystem) -> str:
    with pytest.raises(PlanRefused) as caught:
        build(eco, PLAN)
    assert caught.value.hint
    return caught.value.message


def test_a_diamond_has_three_levels_and_its_longer_side_is_critical() -> None:
    eco = ecosystem(
        todo("A", estimated_hours=1),
        todo("B", "A", estimated_hours=5),
        todo("C", "A", estimated_hours=2),
        todo("D", "B", "C", estimated_hours=1),
    )

    graph = build(eco, PLAN)

    assert graph.levels == (("A",), ("B", "C"), ("D",))
    assert graph.critical_path == ("A", "B", "D")
    assert (graph.critical_hours, graph.work_hours, graph.width) == (7, 9, 2)
    assert graph.parallelism == pytest.approx(9 / 7)
    assert graph.predecessors["D"] == ("B", "C")
    assert graph.successors["A"] == ("B", "C")
    assert graph.redundant == ()


def test_an_edge_that_a_longer_path_implies_is_redundant() -> None:
    graph = build(ecosystem(todo("A"), todo("B", "A"), todo("C", "A", "B")), PLAN)

    assert graph.redundant == (("A", "C"),)


def test_a_completed_todo_neither_runs_nor_blocks() -> None:
    graph = build(ecosystem(todo("A", status="completed"), todo("B", "A")), PLAN)

    assert graph.levels == (("B",),)
    assert graph.predecessors == {"B": ()}
    assert graph.done == 1


AB, ONLY_A = (("A",), ("B",)), (("A",),)
REACHED = Milestone(id="X", name="M", status="completed")
LEVELS: dict[str, tuple[Ecosystem, tuple[tuple[str, ...], ...]]] = {
    "blocking alone": (ecosystem(todo("B"), todo("A", blocking=("B",))), AB),
    "blocked_by alone": (ecosystem(todo("B", "A"), todo("A")), AB),
    "both": (ecosystem(todo("B", "A"), todo("A", blocking=("B",))), AB),
    "both, repeated": (ecosystem(todo("B", "A", "A"), todo("A", blocking=("B", "B"))), AB),
    "a resolved issue": (ecosystem(todo("A", "X"), issues=(issue("X", status="resolved"),)), ONLY_A),
    "a closed issue": (ecosystem(todo("A", "X"), issues=(issue("X", status="closed"),)), ONLY_A),
    "a completed plan": (
        ecosystem(todo("A", "X"), plans=(Plan(id="X", title="Other", status="completed"),)),
        ONLY_A,
    ),
    "a completed milestone": (
        ecosystem(todo("A", "X"), plans=(Plan(id="P", title="Other", milestones=(REACHED,)),)),
        ONLY_A,
    ),
    "a todo in progress": (ecosystem(todo("A", status="in_progress")), ONLY_A),
    "a todo that is blocked": (ecosystem(todo("A", status="blocked")), ONLY_A),
    "a cycle behind a completed todo": (
        ecosystem(todo("A", "B"), todo("B", "C", status="completed"), todo("C", "A")),
        (("A",), ("C",)),
    ),
    "a todo that blocks its own plan": (ecosystem(todo("A", blocking=(PLAN,)), todo("B")), (("A", "B"),)),
    "unknown names outside of the plan": (
        ecosystem(todo("A"), todo("B", "nowhere", plan="PLAN-002"), issues=(issue(blocking=("nowhere",)),)),
        ONLY_A,
    ),
    "a completed todo in an undeclared repo": (
        ecosystem(todo("A"), todo("B", repo="gone", status="completed")),
        ONLY_A,
    ),
    "a plan that no todo names owns the open todos of its repos": (
        ecosystem(
            *(todo("A", plan=None), todo("B", plan=None, repo="web"), todo("C", plan="PLAN-002")),
            todo("D", plan=None, status="completed"),
            plan={"repos": ("core",)},
        ),
        ONLY_A,
    ),
}


@pytest.mark.parametrize(("eco", "levels"), LEVELS.values(), ids=LEVELS)
def test_the_levels_follow_from_the_file(eco: Ecosystem, levels: tuple[tuple[str, ...], ...]) -> None:
    graph = build(eco, PLAN)

    assert (graph.levels, graph.blocked) == (levels, {})
    assert list(graph.edges) == [(levels[0][0], name) for (name,) in levels[1:]]


@pytest.mark.parametrize(
    ("todos", "sections", "words"),
    [
        pytest.param(
            [todo("A", "ISSUE-003")],
            {"issues": (issue(),)},
            "ISSUE-003 (in_progress: Fix the parser)",
            id="issue",
        ),
        pytest.param(
            [todo("A")],
            {"issues": (issue(blocking=("A",)),)},
            "ISSUE-003 (in_progress: Fix the parser)",
            id="blocking issue",
        ),
        pytest.param(
            [todo("A")],
            {"issues": (issue(blocking=(PLAN,)),)},
            "ISSUE-003 (in_progress: Fix the parser)",
            id="whole plan",
        ),
        pytest.param(
            [todo("A", "PLAN-002")],
            {"plans": (Plan(id="PLAN-002", title="Other"),)},
            "PLAN-002 (draft: Other)",
            id="plan",
        ),
        pytest.param(
            [todo("A", "M1")],
            {"plan": {"milestones": (Milestone(id="M1", name="Half way"),)}},
            "M1 (pending: Half way)",
            id="milestone",
        ),
        pytest.param(
            [todo("A", "B"), todo("B", plan="PLAN-002")],
            {},
            "B (pending: Do B) of PLAN-002",
            id="another plan's todo",
        ),
        pytest.param([todo("A", "B"), todo("B", plan=None)], {}, "B (pending: Do B)", id="a todo of no plan"),
    ],
)
def test_what_is_open_outside_the_plan_blocks_and_says_so(
    todos: list[Any], sections: dict[str, Any], words: str
) -> None:
    graph = build(ecosystem(*todos, **sections), PLAN)

    assert graph.blocked == {"A": words}
    assert not graph.todos
    assert not graph.nothing_to_do


def test_what_depends_on_a_blocked_todo_is_blocked_by_the_same_root() -> None:
    eco = ecosystem(todo("A", "ISSUE-003"), todo("B", "A"), todo("C", "B"), todo("D"), issues=(issue(),))

    graph = build(eco, PLAN)

    assert list(graph.todos) == ["D"]
    assert graph.blocked == {
        "A": "ISSUE-003 (in_progress: Fix the parser)",
        "B": "A, which is blocked by ISSUE-003",
        "C": "B, which is blocked by ISSUE-003",
    }
    assert graph.unreachable == ("B", "C")
    assert list(graph.blocked_todos) == ["A", "B", "C"]


def test_a_todo_held_up_by_much_names_the_first_three() -> None:
    issues = tuple(issue(f"ISSUE-{i}", title="T") for i in range(5))

    graph = build(ecosystem(todo("A", *(i.id for i in issues)), issues=issues), PLAN)

    assert graph.blocked["A"] == (
        "ISSUE-0 (in_progress: T); ISSUE-1 (in_progress: T); ISSUE-2 (in_progress: T); and 2 more"
    )


CYCLES = {
    "a cycle of three": ([todo("A", "C"), todo("B", "A"), todo("C", "B")], {}, ["A → B → C → A"]),
    "a todo that waits for itself": ([todo("A", "A")], {}, ["A → A"]),
    "two cycles, each named": (
        [todo("A", "B"), todo("B", "A"), todo("C", "D"), todo("D", "C")],
        {},
        ["A → B → A", "C → D → C"],
    ),
    "the shortest of a knot": ([todo("A", "C"), todo("B", "A", "C"), todo("C", "B")], {}, ["B → C → B"]),
    "a cycle through an issue": (
        [todo("A", "ISSUE-003", blocking=("ISSUE-003",))],
        {"issues": (issue(),)},
        ["A → ISSUE-003 → A"],
    ),
    "a todo that waits for its own plan": ([todo("A", PLAN)], {}, ["A → PLAN-001 → A"]),
    "a cycle through another plan's todo": ([todo("A", "B"), todo("B", "A", plan="P2")], {}, ["A → B → A"]),
    "two plans that wait for each other": (
        [todo("A", "PLAN-002"), todo("B", "A", plan="PLAN-002")],
        {"plans": (Plan(id="PLAN-002", title="Other"),)},
        ["A → B → PLAN-002 → A"],
    ),
}


@pytest.mark.parametrize(("todos", "sections", "cycles"), CYCLES.values(), ids=CYCLES.keys())
def test_a_cycle_is_refused_with_its_path(
    todos: list[Any], sections: dict[str, Any], cycles: list[str]
) -> None:
    message = refusal(ecosystem(*todos, **sections))

    for cycle in cycles:
        assert f"a cycle: {cycle}:" in message


CANCELLED = "X is cancelled, but A waits for it: remove the dependency, or reopen X"
MISSPELT = ecosystem(todo("TODO-001", "TODO-0002", blocking=("TODO-0003",)), todo("TODO-002"))
REFUSED: dict[str, tuple[Ecosystem, str]] = {
    "a cancelled todo": (ecosystem(todo("A", "X"), todo("X", status="cancelled")), CANCELLED),
    "a cancelled todo, from its side": (
        ecosystem(todo("A"), todo("X", status="cancelled", blocking=("A",))),
        CANCELLED,
    ),
    "another plan that is cancelled": (
        ecosystem(todo("A", "X"), plans=(Plan(id="X", title="Other", status="cancelled"),)),
        CANCELLED,
    ),
    "an unknown blocker": (
        MISSPELT,
        "TODO-001 is blocked by 'TODO-0002', which the file does not declare (did you mean 'TODO-002'?)",
    ),
    "an unknown todo that is blocked: an edge would be lost": (MISSPELT, "TODO-001 is blocking 'TODO-0003'"),
    "a cancelled plan": (ecosystem(todo("A"), plan={"status": "cancelled"}), "PLAN-001 is cancelled"),
    "a plan on hold": (ecosystem(todo("A"), plan={"status": "on_hold"}), "PLAN-001 is on hold"),
}


@pytest.mark.parametrize(("eco", "words"), REFUSED.values(), ids=REFUSED)
def test_a_plan_that_must_not_run_is_refused(eco: Ecosystem, words: str) -> None:
    assert words in refusal(eco)


def test_everything_that_is_wrong_is_named_at_once() -> None:
    message = refusal(
        ecosystem(
            todo("A", "B"),
            todo("B", "A"),
            todo("C", "nowhere", repo="cor"),
            todo("D", "X", repo="cor"),
            todo("X", status="cancelled"),
        )
    )

    assert "for 4 reasons" in message
    assert "a cycle: A → B → A" in message
    assert "'nowhere'" in message
    assert "repo 'cor' of C, D is not declared (did you mean 'core'?)" in message
    assert "X is cancelled" in message


@pytest.mark.parametrize(
    ("eco", "words"),
    [
        pytest.param(
            ecosystem(todo("A"), plan={"status": "completed"}), "PLAN-001 is completed", id="completed plan"
        ),
        pytest.param(ecosystem(), "PLAN-001 has no todos", id="no todos"),
        pytest.param(
            ecosystem(todo("A", status="completed"), todo("B", status="cancelled")),
            "all 2 todos of PLAN-001 are completed or cancelled",
            id="all done",
        ),
    ],
)
def test_nothing_to_do_says_why(eco: Ecosystem, words: str) -> None:
    graph = build(eco, PLAN)

    assert words in graph.nothing_to_do
    assert (graph.levels, graph.critical_path, graph.width, graph.parallelism) == ((), (), 0, 0)


def test_missing_estimates_count_as_the_median_of_the_others_or_an_hour() -> None:
    estimated = (todo(f"T{h}", estimated_hours=h) for h in (1, 2, 90))
    graph = build(ecosystem(*estimated, todo("X"), todo("Y")), PLAN)

    assert (graph.hours["X"], graph.assumed, graph.assumed_hours) == (2, 2, 2)
    without = build(ecosystem(todo("A"), todo("B", "A")), PLAN)
    assert (without.critical_hours, without.assumed) == (2, 2)


def test_the_longest_way_left_is_most_urgent_and_priority_breaks_ties() -> None:
    eco = ecosystem(
        todo("low", priority="low"),
        todo("medium"),
        todo("critical", priority="critical"),
        todo("long", priority="low", estimated_hours=3),
        todo("also-medium"),
        *(todo(f"filler-{i}", estimated_hours=1, priority="low") for i in range(3)),
    )

    assert list(build(eco, PLAN).order)[:5] == ["long", "critical", "medium", "also-medium", "low"]


def test_sums_that_differ_only_in_floating_point_are_ties() -> None:
    eco = ecosystem(
        todo("A", estimated_hours=0.1, priority="low"),
        todo("B", "A", estimated_hours=0.2),
        todo("C", estimated_hours=0.3, priority="high"),
    )

    assert next(iter(build(eco, PLAN).order)) == "C"


def test_a_chain_of_ten_thousand_todos_needs_no_recursion() -> None:
    eco = ecosystem(*(todo(f"T{i}", *([f"T{i - 1}"] if i else [])) for i in range(10_000)))

    graph = build(eco, PLAN)

    assert len(graph.levels) == len(graph.critical_path) == 10_000


def test_a_ring_of_ten_thousand_todos_is_named_by_its_ends() -> None:
    message = refusal(ecosystem(*(todo(f"T{i}", f"T{i - 1 if i else 9_999}") for i in range(10_000))))

    assert "T4 → T5 → … 9,990 more … → T9996" in message
    assert len(message) < 300
