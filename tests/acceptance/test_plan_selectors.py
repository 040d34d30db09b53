"""Parts of a plan: selectors, what is blocked from outside, and one todo by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.testbed import Testbed

TODOS = [
    {"id": "A", "repo": "api", "action": "true"},
    {"id": "B", "repo": "web", "action": "true", "blocked_by": ["A"]},
    {"id": "C", "repo": "web", "action": "true"},
    {"id": "D", "repo": "api", "action": "true", "blocked_by": ["X"]},
    {"id": "E", "repo": "web", "action": "true", "blocked_by": ["D"]},
    {"id": "X", "repo": "api", "action": "true", "plan": "PLAN-002", "task": "Sign the contract"},
    {"id": "alone", "repo": "web", "action": "echo by itself", "plan": None},
    {"id": "done", "repo": "web", "action": "true", "status": "completed"},
    {"id": "agentless", "repo": "web", "plan": None, "action": None},
]


@pytest.fixture(scope="module")
def standing(new_testbed: Callable[[], Testbed]) -> Testbed:
    """Processes that stay: what each test sweeps is a matter of tenths of a second."""
    testbed = new_testbed()
    testbed.write(TODOS)
    testbed.up()
    return testbed


@pytest.fixture
def fresh(standing: Testbed) -> Iterator[Testbed]:
    """With nothing completed."""
    standing.write(TODOS)
    return standing


def test_what_is_blocked_from_outside_is_skipped_with_what_depends_on_it(fresh: Testbed) -> None:
    answer = fresh.sweep()

    assert answer.code == 5
    assert answer.json["status"] == "succeeded"
    assert answer.states == {
        "A": "succeeded",
        "B": "succeeded",
        "C": "succeeded",
        "D": "skipped",
        "E": "skipped",
    }
    assert answer.todo("D")["error"] == "blocked by X (pending: Sign the contract) of PLAN-002"
    assert answer.todo("E")["error"] == "blocked by D, which is blocked by X"
    assert "- D  blocked by X (pending: Sign the contract) of PLAN-002" in answer.err


def test_only_todos_of_a_repository(fresh: Testbed) -> None:
    answer = fresh.sweep("--repo", "api")

    assert answer.states == {"A": "succeeded", "D": "skipped"}


def test_only_the_todos_that_are_named_and_what_they_wait_for_blocks_them(fresh: Testbed) -> None:
    answer = fresh.sweep("--todo", "B", "--todo", "C")

    assert answer.code == 5
    assert answer.states == {"B": "skipped", "C": "succeeded"}
    assert answer.todo("B")["error"] == "blocked by A, which is not part of this sweep"


def test_a_selector_that_fits_nothing_is_refused_or_has_nothing_to_do(fresh: Testbed) -> None:
    unknown, empty = fresh.sweep("--repo", "apo"), fresh.sweep("--todo", "done")

    assert (unknown.code, "did you mean 'api'" in unknown.err) == (2, True)
    assert (empty.code, "nothing to do" in empty.err) == (0, True)


def test_execute_runs_one_todo_of_a_plan_in_a_run_of_its_own(fresh: Testbed) -> None:
    answer = fresh.coord("todo", "execute", "A", "--json")

    assert answer.code == 0
    assert answer.states == {"A": "succeeded"}
    assert answer.json["plan_id"] == "PLAN-001"
    assert fresh.coord("show-todo", "A", "--json").json["status"] == "completed"


def test_execute_runs_a_todo_that_belongs_to_no_plan(fresh: Testbed) -> None:
    answer = fresh.coord("todo", "execute", "alone", "--json")

    assert answer.code == 0
    assert answer.states == {"alone": "succeeded"}
    assert fresh.coord("logs", "last", "alone").out == "by itself\n"


def test_execute_says_what_blocks_a_todo(fresh: Testbed) -> None:
    answer = fresh.coord("todo", "execute", "B")

    assert answer.code == 5
    assert "B  blocked by A" in answer.err


def test_execute_refuses_what_it_cannot_do(fresh: Testbed) -> None:
    unknown, done, agentless = (
        fresh.coord("todo", "execute", name, "--json") for name in ("AA", "done", "agentless")
    )

    assert (unknown.code, "AA" in unknown.err) == (2, True)
    assert (done.code, "nothing to do" in done.err, done.json["run_id"]) == (0, True, None)
    assert (agentless.code, "no agent is configured" in agentless.err) == (2, True)
