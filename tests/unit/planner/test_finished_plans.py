"""A plan that is finished, or partly, is drawn with its states."""

from __future__ import annotations

import pytest
from hypothesis import given
from planner_ecosystems import PLAN, Drawn, acyclic, ecosystem, todo

from coordination.charts import pictures, plan
from coordination.charts.plan import plan_data
from coordination.models import TodoStatus
from coordination.planner.graph import PlanGraph, build, count_by_status, with_finished
from coordination.planner.selection import Selectors

DONE, CANCELLED, OPEN = TodoStatus.COMPLETED, TodoStatus.CANCELLED, TodoStatus.PENDING


def drawn(second: TodoStatus = OPEN, executing: tuple[str, ...] = (), **plan_fields: object) -> PlanGraph:
    eco = ecosystem(
        todo("A", status=DONE, estimated_hours=8),
        todo("B", "A", repo="web", status=second, estimated_hours=3),
        todo("C", status=CANCELLED),
        todo("D", "A", "B", repo="parser", status=second, estimated_hours=1),
        plan=plan_fields,
    )
    return with_finished(build(eco, PLAN), eco, executing=executing)


def test_the_tree_of_a_partly_finished_plan_has_a_symbol_for_each_todo_and_counts_the_rest() -> None:
    assert plan.tree(drawn()).splitlines() == [
        "PLAN-001  The plan",
        "4 todos: 1 completed, 1 cancelled, 2 pending",
        "to do: 2 todos, 4 h of work, 4 h on the critical path (*), parallelism 1.0",
        "",
        "  ✓ A        completed  core    Do A",
        "* └─ ○ B           3 h  web     Do B",
        "*    └─ ○ D        1 h  parser  Do D",
        "  - C        cancelled  core    Do C",
    ]


def test_the_tree_of_a_finished_plan_is_drawn_and_says_no_more_that_there_is_nothing_to_do() -> None:
    text = plan.tree(drawn(DONE))

    assert "4 todos: 3 completed, 1 cancelled" in text
    assert [line.split()[-1] for line in text.splitlines()[3:]] == ["A", "B", "D", "C"]
    assert "nothing to do" not in text
    assert "*" not in text


def test_a_line_is_coloured_by_the_status_of_its_todo() -> None:
    painted = plan.tree(drawn(executing=("B",)), lambda status, line: f"<{status}>{line}")

    assert [line.split(">")[0] for line in painted.splitlines()[4:]] == [
        "<completed",
        "<in_progress",
        "<pending",
        "<cancelled",
    ]
    assert "▶ B" in painted


@pytest.mark.parametrize(
    ("draw", "completed"),
    [
        (plan.mermaid, "classDef is_completed fill:"),
        (plan.dot, 'fillcolor="#bbf7d0"'),
        (pictures.plan_svg, ">completed</text>"),
    ],
)
@pytest.mark.parametrize("second", [OPEN, DONE])
def test_every_picture_shows_the_state_by_colour_and_symbol(draw, completed: str, second: TodoStatus) -> None:
    text = draw(drawn(second))

    assert "✓ A" in text
    assert "- C" in text
    assert ("○ B" in text) is (second is OPEN)
    assert completed in text


def test_data_has_the_open_part_as_before_and_the_finished_todos_beside_it() -> None:
    whole = drawn()
    eco = ecosystem(todo("A", status=DONE), todo("B", "A"))
    data = plan_data(build(eco, PLAN), with_finished(build(eco, PLAN), eco))

    assert [one["id"] for one in data["todos"]] == ["B"]
    assert [(one["id"], one["status"], one["successors"]) for one in data["finished"]] == [
        ("A", "completed", ["B"])
    ]
    assert data["states"] == {"A": "completed", "B": "pending"}
    assert plan_data(build(eco, PLAN))["finished"] == []
    assert count_by_status(whole) == {"completed": 1, "cancelled": 1, "pending": 2}


def test_todos_that_a_recurring_plan_runs_again_are_not_finished() -> None:
    eco = ecosystem(todo("A", status=DONE), plan={"recurring": True})
    whole = with_finished(build(eco, PLAN), eco)

    assert not whole.finished
    assert "completed" not in plan.tree(whole)


def test_a_selection_draws_the_finished_todos_among_those_asked_for() -> None:
    eco = ecosystem(todo("A", status=DONE), todo("B", repo="web", status=DONE), todo("C", "A", repo="web"))
    wanted = Selectors(repos=["web"])

    assert set(with_finished(build(eco, PLAN, wanted), eco, wanted).todos) == {"B", "C"}


def test_finished_todos_in_a_cycle_are_drawn_all_the_same() -> None:
    eco = ecosystem(todo("A", "B", status=DONE), todo("B", "A", status=DONE), todo("C", "B"))

    assert "✓ A" in (text := plan.tree(with_finished(build(eco, PLAN), eco)))
    assert "✓ B" in text


@given(acyclic(finished=True))
def test_every_todo_of_a_plan_is_drawn_once_and_the_figures_are_those_of_the_open_part(made: Drawn) -> None:
    graph = build(made.ecosystem, PLAN)
    whole = with_finished(graph, made.ecosystem)

    assert {*whole.todos, *whole.blocked} == {one.id for one in made.ecosystem.coordination.todos}
    assert (whole.work_hours, whole.critical_hours) == pytest.approx((graph.work_hours, graph.critical_hours))
    assert whole.size == graph.size
    for draw in (plan.tree, plan.mermaid, plan.dot, pictures.plan_svg):
        assert draw(whole)
