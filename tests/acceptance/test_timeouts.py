"""A run past its timeout is ended by whoever leads, whether anybody follows it or not; a todo's own gives way
to the one that is asked for.
"""

from __future__ import annotations

import pytest

from tests.testbed import PLAN, Testbed
from tests.waiting import until

FOR_EVER = "while true; do sleep 0.05; done"


@pytest.fixture
def endless(testbed: Testbed) -> Testbed:
    todos = [
        {"id": "A", "repo": "api", "action": "echo 1 > one", "compensate": "echo undone >> $LEDGER"},
        {
            "id": "B",
            "repo": "api",
            "action": FOR_EVER,
            "blocked_by": ["A"],
            "timeout": "1h",
            "compensate": "true",
        },
        {"id": "C", "repo": "web", "blocked_by": ["B"]},
    ]
    testbed.settings = {"kill_grace": "500ms"}
    testbed.write(todos, plan={"timeout": "5s"})
    return testbed


def test_a_run_that_nobody_follows_is_ended_when_its_time_is_up(endless: Testbed):
    endless.up()
    endless.ok("sweep", PLAN, "--detach")
    assert endless.run()["timeout_s"] == 5
    until(lambda: endless.run()["status"] == "cancelled")

    run = endless.run()
    assert (run["timed_out"], run["steered_by"]) == ("timed out after 5 s", "its timeout")
    assert {todo["id"]: todo["state"] for todo in run["todos"]} == {
        "A": "succeeded",
        "B": "cancelled",
        "C": "cancelled",
    }
    assert endless.todo("C")["error"] == "timed out after 5 s"


def test_a_run_whose_failures_are_undone_is_undone_when_its_time_is_up(endless: Testbed):
    ended = endless.sweep("--on-failure", "rollback", "--timeout", "6s")

    assert (ended.code, ended.json["status"], ended.json["rollback"]) == (
        3,
        "rolled_back",
        "timed out after 6 s",
    )
    assert endless.ledger == ["undone"]


def test_an_executed_todo_is_stopped_after_the_timeout_that_is_asked_for(testbed: Testbed):
    testbed.write([{"id": "A", "repo": "api", "action": FOR_EVER, "timeout": "1h"}])

    ended = testbed.coord("execute", "A", "--timeout", "300ms", "--json")

    assert (ended.code, ended.json["status"]) == (3, "failed")
    assert "0.3 s" in ended.todo("A")["error"]
    assert testbed.coord("execute", "A", "--timeout", "soon").code == 2
