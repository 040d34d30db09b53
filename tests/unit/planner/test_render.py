"""A plan as text, picture and data, also with its finished todos."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from planner_ecosystems import PLAN, Drawn, acyclic, ecosystem, todo

from coordination.charts import pictures, plan
from coordination.charts.plan import plan_data
from coordination.models import Issue, TodoStatus
from coordination.planner.graph import PlanGraph, build, count_by_status, with_finished
from coordination.planner.selection import Selectors
from coordination.text import format_hours
from tests.examples import examples

NASTY = 'Say "hi" \\N <b>&amp;</b> #1 `x`\nand go'


def diamond() -> PlanGraph:
    eco = ecosystem(
        todo("A", estimated_hours=1),
        todo("B", "A", repo="parser", estimated_hours=5),
        todo("C", "A", repo="web"),
        todo("D", "A", "B", "C", estimated_hours=0.5),
        todo("E", "ISSUE-1"),
        issues=(Issue(id="ISSUE-1", title="Wait"),),
    )
    return build(eco, PLAN)


def test_the_tree_draws_each_todo_once_under_its_most_urgent_predecessor() -> None:
    assert plan.tree(diamond()) == "\n".join(
        [
            "PLAN-001  The plan",
            "4 todos in 3 levels, 7.5 h of work, 6.5 h on the critical path (*), parallelism 1.2",
            "~ no estimate: 1 h assumed",
            "",
            "* A           1 h  core    Do A",
            "* ├─ B        5 h  parser  Do B",
            "* │  └─ D  30 min  core    Do D  (also after C)",
            "  └─ C       ~1 h  web     Do C",
            "",
            "blocked todos:",
            "  E  core  Do E",
            "      blocked by ISSUE-1 (pending: Wait)",
        ]
    )


def test_a_very_deep_tree_stays_narrow_and_an_empty_one_says_why() -> None:
    eco = ecosystem(*(todo(f"T{i}", *([f"T{i - 1}"] if i else [])) for i in range(500)))

    assert max(map(len, plan.tree(build(eco, PLAN)).splitlines())) < 120
    assert "nothing to do: PLAN-001 has no todos" in plan.tree(build(ecosystem(), PLAN))


def test_mermaid_and_dot_mark_the_critical_path_and_the_redundant_edge() -> None:
    lines = plan.mermaid(diamond()).splitlines()
    assert lines[0] == "flowchart LR"
    assert {'  subgraph r0["core"]', '    t0["A<br/>Do A<br/>1 h"]'} <= set(lines)
    assert {"  t0 ==> t1", "  t0 -.-> t3", "  t2 --> t3"} <= set(lines)
    assert {"  class t0,t1,t3 critical", "  class t4 blocked"} <= set(lines)

    lines = plan.dot(diamond()).splitlines()
    edges = {'  "A" -> "B" [style=bold];', '  "A" -> "D" [style=dotted];', '  "C" -> "D";'}
    assert edges <= set(lines)
    assert any(line.strip().startswith('"E"') and "style=dashed" in line for line in lines)


def test_labels_cannot_break_out_of_mermaid_or_dot() -> None:
    graph = build(ecosystem(todo("A", task=NASTY)), PLAN)
    (line,) = [at for at in plan.mermaid(graph).splitlines() if "t0[" in at]
    assert line.count('"') == 2
    assert not re.search(r"[<>&`\\]", line.replace("<br/>", ""))
    assert "Say #34;hi#34;" in line

    text = plan.dot(graph)
    (line,) = [at for at in text.splitlines() if at.strip().startswith('"A"')]
    assert 'label="A\\nSay \\"hi\\" \\\\N <b>' in line
    assert text.startswith('digraph "PLAN-001" {')
    assert text.endswith("}")


@settings(max_examples=examples(40))
@given(acyclic(issues=True))
def test_every_form_shows_every_todo(drawn: Drawn) -> None:
    graph = build(drawn.ecosystem, PLAN)
    tree, data = plan.tree(graph), json.loads(json.dumps(plan_data(graph)))

    assert [t["id"] for t in data["todos"]] == list(graph.todos)
    assert {t["id"] for t in data["blocked"]} == set(graph.blocked)
    assert {tuple(edge) for edge in data["edges"]} == set(graph.edges)
    assert data["figures"]["edges"] == len(data["edges"])
    for name in (*graph.todos, *graph.blocked):
        assert len(re.findall(rf"^[* ] [│├└─ ]*{name}  ", tree, re.MULTILINE)) == 1
        assert f"{name}<br/>" in plan.mermaid(graph)
        assert f'"{name}" [label=' in plan.dot(graph)


@pytest.mark.parametrize(
    ("hours", "words"),
    [(0, "0 h"), (0.01, "36 s"), (0.5, "30 min"), (0.96, "58 min"), (1, "1 h"), (2.5, "2.5 h"),
     (1.25, "1.25 h"), (10, "10 h"), (20.04, "20 h"), (12.34, "12.3 h"),
     (1250, "1,250 h"), (0.1 + 0.2 + 0.7, "1 h")],
)  # fmt: skip
def test_hours_are_said_as_people_say_them(hours: float, words: str) -> None:
    assert format_hours(hours) == words


DONE, CANCELLED, OPEN = TodoStatus.COMPLETED, TodoStatus.CANCELLED, TodoStatus.PENDING


def partly_finished(
    second: TodoStatus = OPEN,
    executing: tuple[str, ...] = (),
    succeeded: tuple[str, ...] = (),
    **plan_fields: object,
) -> PlanGraph:
    eco = ecosystem(
        todo("A", status=DONE, estimated_hours=8),
        todo("B", "A", repo="web", status=second, estimated_hours=3),
        todo("C", status=CANCELLED),
        todo("D", "A", "B", repo="parser", status=second, estimated_hours=1),
        plan=plan_fields,
    )
    return with_finished(build(eco, PLAN), eco, executing=executing, succeeded=succeeded)


def test_the_tree_of_a_partly_finished_plan_has_a_symbol_for_each_todo_and_counts_the_rest() -> None:
    assert plan.tree(partly_finished()).splitlines() == [
        "PLAN-001  The plan",
        "4 todos: 1 completed, 1 cancelled, 2 pending",
        "to do: 2 todos, 4 h of work, 4 h on the critical path (*), parallelism 1.0",
        "",
        "  ✓ A        completed  core    Do A",
        "* └─ ○ B           3 h  web     Do B",
        "*    └─ ○ D        1 h  parser  Do D",
        "  - C        cancelled  core    Do C",
    ]


def test_a_todo_that_has_succeeded_in_a_live_run_is_drawn_as_completed() -> None:
    text = plan.tree(partly_finished(executing=("B", "D"), succeeded=("B",)))

    assert "4 todos: 2 completed, 1 cancelled, 1 in progress" in text
    assert "✓ B" in text
    assert "▶ D" in text
    assert "to do: 1 todo" in text


def test_the_tree_of_a_finished_plan_is_drawn_and_says_no_more_that_there_is_nothing_to_do() -> None:
    text = plan.tree(partly_finished(DONE))

    assert "4 todos: 3 completed, 1 cancelled" in text
    assert [line.split()[-1] for line in text.splitlines()[3:]] == ["A", "B", "D", "C"]
    assert "nothing to do" not in text
    assert "*" not in text


def test_a_line_is_coloured_by_the_status_of_its_todo() -> None:
    painted = plan.tree(partly_finished(executing=("B",)), lambda status, line: f"<{status}>{line}")

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
    text = draw(partly_finished(second))

    assert "✓ A" in text
    assert "- C" in text
    assert ("○ B" in text) is (second is OPEN)
    assert completed in text


def test_data_has_the_open_part_as_before_and_the_finished_todos_beside_it() -> None:
    whole = partly_finished()
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
