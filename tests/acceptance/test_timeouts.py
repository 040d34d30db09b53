"""A run past its timeout is ended by whoever leads, whether anybody follows it or not; a todo's own gives way
to the one that is asked for.
"""

from __future__ import annotations

from tests.testbed import PLAN, Testbed
from tests.waiting import until

FOR_EVER = "while true; do sleep 0.05; done"


def test_a_run_that_nobody_follows_is_ended_when_its_time_is_up(testbed: Testbed):
    todos = [
        {"id": "A", "repo": "api"},
        {"id": "B", "repo": "api", "action": FOR_EVER, "blocked_by": ["A"], "timeout": "1h"},
        {"id": "C", "repo": "web", "blocked_by": ["B"]},
    ]
    testbed.settings = {"kill_grace": "500ms"}
    testbed.write(todos, plan={"timeout": "1h"})
    testbed.up()
    testbed.ok("sweep", PLAN, "--detach", "--timeout", "5s")
    until(lambda: testbed.run()["status"] == "cancelled")

    run = testbed.run()
    assert (run["timeout_s"], run["timed_out"]) == (5, "timed out after 5 s")
    assert testbed.shown().states == {"A": "succeeded", "B": "cancelled", "C": "cancelled"}


def test_an_executed_todo_is_stopped_after_the_timeout_that_is_asked_for(testbed: Testbed):
    testbed.write([{"id": "A", "repo": "api", "action": FOR_EVER, "timeout": "1h"}])

    ended = testbed.coord("execute", "A", "--timeout", "300ms", "--json")

    assert (ended.code, ended.json["status"]) == (3, "failed")
    assert "0.3 s" in ended.todo("A")["error"]
    assert testbed.coord("execute", "A", "--timeout", "soon").code == 2
