"""A plan that cannot be carried out is refused in words before anything is started or written."""

from __future__ import annotations

import pytest

from tests.acceptance.workplace import PLAN, Workplace


@pytest.fixture(autouse=True)
def nothing_is_started(place: Workplace) -> None:
    yield
    assert not place.state.exists()


def test_an_invalid_file_is_refused_with_the_line_of_each_problem(place: Workplace) -> None:
    place.declare(
        {"A": {"repo": "api", "action": "true", "statsu": "pending"}, "B": {"repo": "api", "timeout": "soon"}}
    )

    answer = place.coord("sweep", PLAN)

    assert answer.code == 2
    assert answer.err.count("ecosystem.yaml:") == 2
    assert "did you mean 'status'?" in answer.err
    assert "got soon" in answer.err


def test_a_file_that_is_no_yaml_is_refused_with_its_line(place: Workplace) -> None:
    place.file.write_text("repos:\n  - {name: api\n")

    answer = place.coord("sweep", PLAN)

    assert answer.code == 2
    assert "ecosystem.yaml:" in answer.err


def test_an_unknown_plan_is_refused_with_the_nearest_name(place: Workplace) -> None:
    place.declare({"A": {"repo": "api", "action": "true"}})

    answer = place.coord("sweep", "PLAN-01")

    assert answer.code == 2
    assert "there is no plan 'PLAN-01' (did you mean 'PLAN-001'?)" in answer.err


def test_nothing_to_do_is_no_error_and_says_so(place: Workplace) -> None:
    place.declare({"A": {"repo": "api", "action": "true", "status": "completed"}})

    answer = place.coord("sweep", PLAN)

    assert answer.code == 0
    assert "nothing to do: all 1 todos of PLAN-001 are completed or cancelled" in answer.err


def test_nothing_to_do_is_data_as_well(place: Workplace) -> None:
    place.declare({"A": {"repo": "api", "action": "true", "status": "completed"}})

    assert place.sweep().data["run_id"] is None


def test_a_cycle_is_a_warning_of_the_file(place: Workplace) -> None:
    place.declare({"A": {"repo": "api", "blocked_by": ["B"]}, "B": {"repo": "api", "blocked_by": ["A"]}})

    answer = place.coord("validate")

    assert answer.code == 0
    assert "a cycle: A → B → A" in answer.err


def test_a_cycle_is_refused_with_its_path(place: Workplace) -> None:
    place.declare(
        {
            "A": {"repo": "api", "action": "true", "blocked_by": ["C"]},
            "B": {"repo": "api", "action": "true", "blocked_by": ["A"]},
            "C": {"repo": "web", "action": "true", "blocked_by": ["B"]},
        }
    )

    answer = place.coord("sweep", PLAN)

    assert answer.code == 2
    assert "A → B → C → A" in answer.err


def test_a_todo_with_no_action_and_no_agent_is_refused_and_named(place: Workplace) -> None:
    place.declare({"A": {"repo": "api", "action": "true"}, "B": {"repo": "api"}})

    answer = place.coord("sweep", PLAN)

    assert answer.code == 2
    assert "no agent is configured" in answer.err
    assert "B" in answer.err
    assert "agent_command" in answer.err


def test_a_blocker_that_is_not_declared_is_refused_and_named(place: Workplace) -> None:
    place.declare({"A": {"repo": "api", "action": "true", "blocked_by": ["TODO-999"]}})

    answer = place.coord("sweep", PLAN)

    assert answer.code == 2
    assert "'TODO-999', which the file does not declare" in answer.err


def test_what_this_version_does_not_do_is_refused_instead_of_ignored(place: Workplace) -> None:
    place.declare({"A": {"repo": "api", "action": "true"}})

    answer = place.coord("sweep", PLAN, "--on-failure", "rollback")

    assert answer.code == 2
    assert "not yet supported" in answer.err


def test_a_repository_that_is_not_there_is_refused_with_its_path(place: Workplace) -> None:
    place.declare({"A": {"repo": "api", "action": "true"}}, repos={"api": {"path": "gone/api"}})

    answer = place.coord("sweep", PLAN)

    assert answer.code == 2
    assert f"api: {place.folder}/gone/api" in answer.err
    assert "ecosystem.yaml" in answer.err


def test_a_plan_that_is_wholly_blocked_from_outside_ends_with_5_and_says_by_what(place: Workplace) -> None:
    place.declare(
        {
            "A": {"repo": "api", "action": "true", "blocked_by": ["X"]},
            "B": {"repo": "api", "action": "true", "blocked_by": ["A"]},
            "X": {"repo": "web", "plan": "PLAN-002", "task": "Sign the contract", "action": "true"},
        },
    )

    answer = place.coord("sweep", PLAN)

    assert answer.code == 5
    assert "A  blocked by X (pending: Sign the contract) of PLAN-002" in answer.err
    assert "B  blocked by A, which is blocked by X" in answer.err
