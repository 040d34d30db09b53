"""Quality checks as todos: which there are, in which order, and in which graph."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from coordination.errors import PlanRefused
from coordination.models import CheckKind, Ecosystem, Repo
from coordination.planner.checks import CheckGenerator, unchecked
from coordination.planner.graph import build

E2E = {"name": "e2e", "run": "make e2e", "kind": "e2e", "needs": ["db"], "timeout": "10m", "retries": 2}


def ecosystem(
    repos: dict[str, Any], needs: dict[str, list[str]], plan: Any = None, todos: Any = ()
) -> Ecosystem:
    pairs = [(consumer, provider) for consumer, some in needs.items() for provider in some]
    return Ecosystem.model_validate(
        {
            "repos": [
                {"name": name, "path": name, **({"qa": qa} if qa else {})} for name, qa in repos.items()
            ],
            "resources": [{"name": "db"}],
            "coordination": {
                "plans": [{"id": "P", "title": "p", **({"qa": plan} if plan else {})}],
                "todos": [{"task": "t", "plan": "P", "action": "true", **todo} for todo in todos],
                "dependencies": [
                    {"id": f"D{n}", "consumer": c, "provider": p, "type": "runtime"}
                    for n, (c, p) in enumerate(pairs)
                ],
            },
        }
    )


def waits(todos: Any) -> dict[str, set[str]]:
    return {todo.id: set(todo.blocked_by) for todo in todos}


def test_a_check_waits_for_those_below_it_and_for_the_commits_of_repositories_without_one():
    found = ecosystem(
        {"a": "x", "b": None, "c": [{"name": "unit", "run": "y"}, E2E]}, {"b": ["a"], "c": ["b"]}
    )

    todos = CheckGenerator(ecosystem=found).todos(["a", "c"])

    assert waits(todos) == {
        "qa.a.qa": set(),
        "qa.b.commit": set(),
        "qa.c.unit": {"qa.a.qa", "qa.b.commit"},
        "qa.c.e2e": {"qa.a.qa", "qa.b.commit", "qa.c.unit"},
    }
    assert [need.name for need in todos[-1].resources] == ["db"]
    assert unchecked(found, "abc") == ["b"]
    assert waits(CheckGenerator(ecosystem=found, kinds=[CheckKind.E2E]).todos(["c"])) == {
        "qa.a.commit": set(),
        "qa.b.commit": set(),
        "qa.c.e2e": {"qa.a.commit", "qa.b.commit"},
    }


def test_repositories_in_a_circle_do_not_wait_for_each_other_and_see_each_others_commits():
    todos = CheckGenerator(ecosystem=ecosystem({"a": "x", "b": "y"}, {"a": ["b"], "b": ["a"]})).todos(
        ["a", "b"]
    )

    assert waits(todos) == {
        "qa.a.commit": set(),
        "qa.b.commit": set(),
        "qa.a.qa": {"qa.b.commit"},
        "qa.b.qa": {"qa.a.commit"},
    }


TODOS = [
    {"id": "A", "repo": "a", "acceptance_criteria": ["words", {"text": "it holds", "check": "test -e x"}]},
    {"id": "B", "repo": "b", "blocked_by": ["A"]},
]


def test_a_plan_is_checked_before_and_behind_its_todos_and_dependents_wait_for_criteria():
    found = ecosystem({"a": "x", "b": "y"}, {"b": ["a"]}, "both", TODOS)

    graph = build(found, "P")

    before = {name: set(some) for name, some in graph.predecessors.items()}
    assert before["P.qa.before"] == {"P.qa.before.a.qa", "P.qa.before.b.qa"}
    assert before["A"] == {"P.qa.before"}
    assert before["A.accept.2"] == {"A"}
    assert before["B"] == {"A", "A.accept.2", "P.qa.before"}
    assert before["P.qa.a.qa"] == {"A", "A.accept.2"}
    assert before["P.qa.b.qa"] == {"A", "A.accept.2", "B", "P.qa.a.qa"}
    assert graph.todos["P.qa.b.qa"].action.before == "P.qa.before.b.qa"
    assert "P.qa.before" not in build(found, "P", _only("B")).predecessors.get("A", ())


def _only(todo: str) -> Any:
    from coordination.planner.selection import Selectors

    return Selectors(todos=[todo])


@pytest.mark.parametrize(("needs", "before"), [({}, True), ({"b": ["a"]}, False)])
def test_checks_before_a_plan_run_where_nothing_of_it_is_done(needs: dict[str, list[str]], before: bool):
    todos = [{**TODOS[0], "status": "completed"}, TODOS[1]]
    debt = {"when": "both", "allow_red": True}

    graph = build(ecosystem({"a": "x", "b": "y"}, needs, debt, todos), "P")

    assert set(graph.todos) - {"B", "P.qa.b.qa"} == ({"P.qa.before", "P.qa.before.b.qa"} if before else set())
    assert graph.todos["P.qa.b.qa"].action.allow_red is before, "nothing is known of what failed before"


def test_a_todo_runs_a_declared_check_with_its_own_retries_and_reuses_results():
    todo = {"id": "C", "repo": "c", "action": {"type": "qa", "check": "e2e"}}

    done = build(ecosystem({"c": [{"name": "unit", "run": "y"}, E2E]}, {}, None, [todo]), "P").todos["C"]

    assert (done.action.run, done.action.kind, done.retry.attempts) == ("make e2e", CheckKind.E2E, 3)
    assert done.timeout.total_seconds() == 600
    assert done.cache is not None


@pytest.mark.parametrize(
    ("qa", "action"),
    [(None, {}), ("x", {"check": "unit"}), ([E2E, {"name": "unit", "run": "y"}], {})],
    ids=["none declared", "another name", "several"],
)
def test_a_check_that_is_not_declared_refuses_the_plan(qa: Any, action: Any):
    todo = {"id": "C", "repo": "c", "action": {"type": "qa", **action}}

    with pytest.raises(PlanRefused):
        build(ecosystem({"c": qa}, {}, None, [todo]), "P")


def test_checks_are_written_as_a_command_a_mapping_or_a_list():
    def names(qa: Any) -> list[tuple[str, Any]]:
        return [(check.name, check.run) for check in Repo.model_validate({"name": "a", "qa": qa}).qa]

    assert names("make") == names({"run": "make"}) == [("qa", "make")]
    assert names(["npm", "test"]) == [("qa", ("npm", "test"))]
    assert names([{"name": "u", "run": "x"}, E2E]) == [("u", "x"), ("e2e", "make e2e")]
    for wrong in (
        [{"run": "x"}, {"run": "y"}],
        [{"run": "x", "report": "../r.xml"}],
        [{"run": "x", "retries": 99}],
    ):
        with pytest.raises(ValidationError):
            names(wrong)
