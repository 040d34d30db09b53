"""A plan that cannot be carried out is refused in words before anything is started or written."""

from __future__ import annotations

import pytest

from tests.stage import PLAN, Stage


@pytest.fixture(autouse=True)
def nothing_is_started(stage: Stage) -> None:
    yield
    assert not stage.state.exists()


def test_an_invalid_file_is_refused_with_the_line_of_each_problem(stage: Stage) -> None:
    stage.write(
        [
            {"id": "A", "repo": "api", "action": "true", "statsu": "pending"},
            {"id": "B", "repo": "api", "timeout": "soon"},
        ]
    )

    answer = stage.coord("sweep", PLAN)

    assert answer.code == 2
    assert answer.err.count("ecosystem.yaml:") == 2
    assert "did you mean 'status'?" in answer.err
    assert "got soon" in answer.err


def test_a_file_that_is_no_yaml_is_refused_with_its_line(stage: Stage) -> None:
    stage.file.write_text("repos:\n  - {name: api\n")

    answer = stage.coord("sweep", PLAN)

    assert answer.code == 2
    assert "ecosystem.yaml:" in answer.err


def test_an_unknown_plan_is_refused_with_the_nearest_name(stage: Stage) -> None:
    stage.write([{"id": "A", "repo": "api", "action": "true"}])

    answer = stage.coord("sweep", "PLAN-01")

    assert answer.code == 2
    assert "there is no plan 'PLAN-01' (did you mean 'PLAN-001'?)" in answer.err


def test_nothing_to_do_is_no_error_and_says_so(stage: Stage) -> None:
    stage.write([{"id": "A", "repo": "api", "action": "true", "status": "completed"}])

    answer = stage.coord("sweep", PLAN)

    assert answer.code == 0
    assert "nothing to do: the one todo of PLAN-001 is completed or cancelled" in answer.err


def test_nothing_to_do_is_data_as_well(stage: Stage) -> None:
    stage.write([{"id": "A", "repo": "api", "action": "true", "status": "completed"}])

    assert stage.sweep().json["run_id"] is None


def test_a_cycle_is_a_warning_of_the_file(stage: Stage) -> None:
    stage.write(
        [{"id": "A", "repo": "api", "blocked_by": ["B"]}, {"id": "B", "repo": "api", "blocked_by": ["A"]}]
    )

    answer = stage.coord("validate")

    assert answer.code == 0
    assert "a cycle: A → B → A" in answer.err


def test_a_cycle_is_refused_with_its_path(stage: Stage) -> None:
    stage.write(
        [
            {"id": "A", "repo": "api", "action": "true", "blocked_by": ["C"]},
            {"id": "B", "repo": "api", "action": "true", "blocked_by": ["A"]},
            {"id": "C", "repo": "web", "action": "true", "blocked_by": ["B"]},
        ]
    )

    answer = stage.coord("sweep", PLAN)

    assert answer.code == 2
    assert "A → B → C → A" in answer.err


def test_a_todo_with_no_action_and_no_agent_is_refused_and_named(stage: Stage) -> None:
    stage.write([{"id": "A", "repo": "api", "action": "true"}, {"id": "B", "repo": "api", "action": None}])

    answer = stage.coord("sweep", PLAN)

    assert answer.code == 2
    assert "no agent is configured" in answer.err
    assert "B" in answer.err
    assert "agent_command" in answer.err


def test_a_blocker_that_is_not_declared_is_refused_and_named(stage: Stage) -> None:
    stage.write([{"id": "A", "repo": "api", "action": "true", "blocked_by": ["TODO-999"]}])

    answer = stage.coord("sweep", PLAN)

    assert answer.code == 2
    assert "'TODO-999', which the file does not declare" in answer.err


def test_a_plan_that_nothing_could_undo_is_not_begun_with_a_rollback_in_mind(stage: Stage) -> None:
    stage.write(
        [
            {"id": "A", "repo": "api", "workspace": "in-place"},
            {"id": "B", "repo": "api", "action": {"type": "manual"}},
            {"id": "C", "repo": "api", "workspace": "in-place", "compensate": "git checkout ."},
            {"id": "D", "repo": "api"},
        ]
    )

    answer = stage.coord("sweep", PLAN, "--on-failure", "rollback")
    rehearsed = stage.coord("sweep", PLAN, "--on-failure", "rollback", "--dry-run")

    assert (answer.code, rehearsed.code, rehearsed.err) == (2, 2, answer.err)
    assert "but there is no way to undo A (it works in place)\n  give them a `compensate`" in answer.err


def test_a_repository_that_is_not_there_is_refused_with_its_path(stage: Stage) -> None:
    stage.write([{"id": "A", "repo": "api", "action": "true"}], repos={"api": {"path": "gone/api"}})

    answer = stage.coord("sweep", PLAN)

    assert answer.code == 2
    assert f"api: {stage.folder}/gone/api" in answer.err
    assert "ecosystem.yaml" in answer.err


def test_a_plan_that_is_wholly_blocked_from_outside_ends_with_5_and_says_by_what(stage: Stage) -> None:
    stage.write(
        [
            {"id": "A", "repo": "api", "action": "true", "blocked_by": ["X"]},
            {"id": "B", "repo": "api", "action": "true", "blocked_by": ["A"]},
            {"id": "X", "repo": "web", "plan": "PLAN-002", "task": "Sign the contract", "action": "true"},
        ],
    )

    answer = stage.coord("sweep", PLAN)

    assert answer.code == 5
    assert "A  blocked by X (pending: Sign the contract) of PLAN-002" in answer.err
    assert "B  blocked by A, which is blocked by X" in answer.err
