"""`coord todo execute`: for one todo only what it waits for counts."""

from __future__ import annotations

from tests.testbed import PLAN, Testbed


def test_a_todo_runs_beside_another_whose_blocker_is_not_declared(testbed: Testbed) -> None:
    testbed.write(
        [{"id": "A", "repo": "api", "action": "true"}, {"id": "B", "repo": "web", "blocked_by": ["NONE-9"]}]
    )

    validated = testbed.coord("validate")
    refused = testbed.coord("sweep", PLAN)
    executed = testbed.ok("todo", "execute", "A", "--json")

    assert "NONE-9" in validated.err
    assert PLAN in validated.err
    assert refused.code == 2
    assert executed.json["status"] == "succeeded"
