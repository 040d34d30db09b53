"""A plan that cannot be carried out is refused in words before anything is started or written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.testbed import PLAN, Testbed


@pytest.fixture(autouse=True)
def nothing_is_started(testbed: Testbed) -> None:
    yield
    assert not testbed.state.exists()


A = {"id": "A", "repo": "api"}
B = {"id": "B", "repo": "api"}
CONTRACT = {"id": "X", "repo": "web", "plan": "PLAN-002", "task": "Sign the contract"}


@pytest.mark.parametrize(
    ("todos", "code", "words"),
    [
        (
            [{**A, "statsu": "pending"}, {**B, "timeout": "soon"}],
            2,
            ["ecosystem.yaml:", "did you mean 'status'?", "got soon"],
        ),
        (
            [{**A, "blocked_by": ["C"]}, {**B, "blocked_by": ["A"]}, {**A, "id": "C", "blocked_by": ["B"]}],
            2,
            ["A → B → C → A"],
        ),
        ([A, {**B, "action": None}], 2, ["no agent is configured", "B", "agent_command"]),
        ([{**A, "blocked_by": ["Y"]}], 2, ["'Y', which the file does not declare"]),
        (
            [{**A, "blocked_by": ["X"]}, {**B, "blocked_by": ["A"]}, CONTRACT],
            5,
            [
                "A  blocked by X (pending: Sign the contract) of PLAN-002",
                "B  blocked by A, which is blocked by X",
            ],
        ),
        ([{**A, "status": "completed"}], 0, [f"nothing to do: the one todo of {PLAN} is completed"]),
    ],
    ids=["invalid", "cycle", "no-agent", "undeclared", "blocked", "nothing-to-do"],
)
def test_a_sweep_that_cannot_begin_says_why(
    testbed: Testbed, todos: Sequence[dict[str, Any]], code: int, words: Sequence[str]
) -> None:
    testbed.write(todos)

    answer = testbed.sweep()

    assert answer.code == code, answer.err
    assert [word for word in words if word not in answer.err] == []
    if code == 0:
        assert answer.json["run_id"] is None


def test_a_file_that_is_no_yaml_a_plan_and_a_repository_that_are_not_there_are_refused(
    testbed: Testbed,
) -> None:
    testbed.file.write_text("repos:\n  - {name: api\n")
    assert (broken := testbed.coord("sweep", PLAN)).code == 2
    assert "ecosystem.yaml:" in broken.err

    testbed.write([A], repos={"api": {"path": "gone/api"}})
    unknown, missing = testbed.coord("sweep", "PLAN-01"), testbed.coord("sweep", PLAN)
    assert (unknown.code, missing.code) == (2, 2)
    assert "there is no plan 'PLAN-01' (did you mean 'PLAN-001'?)" in unknown.err
    assert f"api: {testbed.folder}/gone/api" in missing.err


def test_a_cycle_is_a_warning_of_the_file(testbed: Testbed) -> None:
    testbed.write([{**A, "blocked_by": ["B"]}, {**B, "blocked_by": ["A"]}])

    answer = testbed.coord("validate")

    assert (answer.code, "a cycle: A → B → A" in answer.err) == (0, True)


def test_a_plan_that_nothing_could_undo_is_not_begun_with_a_rollback_in_mind(testbed: Testbed) -> None:
    testbed.write(
        [
            {"id": "A", "repo": "api", "workspace": "in-place"},
            {"id": "B", "repo": "api", "action": {"type": "manual"}},
            {"id": "C", "repo": "api", "workspace": "in-place", "compensate": "git checkout ."},
            {"id": "D", "repo": "api"},
        ]
    )

    answer = testbed.coord("sweep", PLAN, "--on-failure", "rollback")
    rehearsed = testbed.coord("sweep", PLAN, "--on-failure", "rollback", "--dry-run")

    assert (answer.code, rehearsed.code, rehearsed.err) == (2, 2, answer.err)
    assert "but there is no way to undo A (it works in place)\n  give them a `compensate`" in answer.err
