"""The todo that repairs the work of a plan has what the agents before it had, and none of their secrets."""

from __future__ import annotations

from typing import Any

import pytest

from coordination.errors import PlanRefused
from coordination.models import AgentAction, Ecosystem, Todo, text_of
from coordination.planner.generated import repair_graph
from coordination.planner.graph import build
from workers.attempt.prompt import command_text


def ecosystem(*actions: Any, **last: Any) -> Ecosystem:
    """Return a plan of todos A, B, … with these actions in one repository."""
    todos = [
        {"id": name, "task": name, "repo": "cli", "plan": "P", "status": "completed", "action": action}
        for name, action in zip("ABC", actions, strict=False)
    ]
    todos[-1] |= last
    return Ecosystem.model_validate(
        {
            "repos": [{"name": "cli", "path": "cli", "qa": [{"name": "u", "kind": "unit", "run": "make u"}]}],
            "coordination": {"plans": [{"id": "P", "title": "P"}], "todos": todos},
        }
    )


def agent(**fields: Any) -> dict[str, Any]:
    return {"type": "agent", **fields}


def repair(of: Ecosystem) -> tuple[Todo, AgentAction]:
    made = [todo.id for todo in of.coordination.todos]
    _, graph = repair_graph(of, of.coordination.plans[0], {"cli": "Repair it."}, made)
    (todo,) = graph.todos.values()
    assert isinstance(todo.action, AgentAction)
    return todo, todo.action


def verified(action: AgentAction) -> list[str]:
    return [command_text(check) for check in action.verify or () if not isinstance(check, str)]


def test_a_repair_has_agent_checks_and_paths_of_the_todos_that_made_the_work():
    todo, action = repair(
        ecosystem(
            agent(agent="x", verify=["make a"], paths=["src/**", "!src/key"], rounds=5, reads=[]),
            agent(agent="y", verify=["make a", "make b"], paths=["docs/**"]),
            env={"MODE": "test"},
            secrets=["token"],
            acceptance_criteria=["it is short", {"text": "it passes", "check": "make c"}],
        )
    )

    assert (todo.id, action.prompt, action.agent, action.continues) == (
        "P.repair.cli",
        "Repair it.",
        ("y",),
        "B",
    )
    assert verified(action) == ["make a", "make b", "make c"]
    assert action.paths == ("src/**", "docs/**", "!src/key")
    assert action.rounds == 5
    assert (todo.env, todo.secrets) == ({"MODE": "test"}, ())
    assert [text_of(one) for one in todo.acceptance_criteria] == ["it is short"]


def test_where_one_of_them_might_change_everything_so_may_the_repair():
    _, action = repair(ecosystem(agent(paths=["src/**"]), agent(paths=["!key"])))
    assert action.paths == ("!key",)


def test_work_of_commands_is_repaired_by_the_default_agent_and_the_unit_checks():
    _, action = repair(ecosystem("make all"))
    assert (action.agent, action.continues, verified(action)) == ((), None, ["make u"])


@pytest.mark.parametrize("other", ["MISSING", "Z"])
def test_an_agent_continues_only_a_todo_of_its_repository(other: str):
    found = ecosystem(agent(), agent(continues=other), status="pending")
    with pytest.raises(PlanRefused, match="continues"):
        build(found, "P")
    build(ecosystem(agent(), agent(continues="A"), status="pending"), "P")


def test_a_repair_gets_no_secret_variable_and_leaves_no_sandbox():
    boxed = {"env": {"MODE": "test", "API_TOKEN": "hunter2"}, "sandbox": "off"}
    todo, _ = repair(ecosystem(agent(), **boxed))

    assert (todo.env, todo.sandbox) == ({"MODE": "test"}, None)
    kept, _ = repair(ecosystem(agent(), sandbox={"network": False}))
    assert kept.sandbox is not None
    assert kept.sandbox.network is False
