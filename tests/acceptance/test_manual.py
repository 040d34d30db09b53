"""A manual todo waits for a person, holds no worker, and goes on when somebody says that it is done."""

from __future__ import annotations

from tests.testbed import PLAN, Testbed
from tests.waiting import until


def test_a_manual_todo_waits_until_somebody_says_that_it_is_done(testbed: Testbed) -> None:
    testbed.write(
        [
            {"id": "look", "repo": "api", "action": {"type": "manual"}},
            {"id": "other", "repo": "api", "action": "true"},
            {"id": "after", "repo": "web", "action": "true", "blocked_by": ["look", "other"]},
        ]
    )
    sweep = testbed.begin("sweep", PLAN, "--strategy", "levels")

    said = sweep.says("waits for")
    waiting = testbed.shown()
    done = testbed.coord("complete-todo", "look")
    ended = sweep.done(60)

    assert "look waits for a person: coord complete-todo look" in said
    assert waiting.states == {"look": "parked", "other": "succeeded", "after": "waiting"}
    assert waiting.todo("look")["waits_for"] == "a person: coord complete-todo look"
    assert done.code == 0
    assert ended.code == 0, ended.err
    assert "3 succeeded" in ended.out
    assert testbed.coord("complete-todo", "look").code == 6


def test_what_a_run_waits_for_goes_on_there_and_is_no_other_s_to_complete(testbed: Testbed) -> None:
    testbed.write(
        [
            {"id": "look", "repo": "api", "action": {"type": "manual"}},
            {"id": "then", "repo": "web", "action": {"type": "manual"}, "blocked_by": ["look"]},
            {"id": "busy", "repo": "web", "action": "until [ -e $LEDGER ]; do sleep 0.05; done"},
            {"id": "aside", "repo": "api", "plan": None, "action": {"type": "manual"}},
        ]
    )
    testbed.up()
    sweep = testbed.begin("sweep", PLAN, "--strategy", "dataflow")
    sweep.says("look waits for a person")
    until(lambda: testbed.todo("busy")["state"] == "running")
    run_id = testbed.run()["run_id"]

    busy, early = testbed.coord("complete-todo", "busy"), testbed.coord("complete-todo", "then")
    unknown, aside = testbed.coord("complete-todo", "lock"), testbed.ok("complete-todo", "aside", "--json")
    done = testbed.ok("complete-todo", "look", "--run", run_id, "--json")
    sweep.says("then waits for a person")
    with_hours = testbed.ok("complete-todo", "then", "--hours", "2h")
    (testbed.folder / "ledger").touch()
    ended = sweep.done(60)

    assert (busy.code, f"is executing busy in run {run_id}" in busy.err) == (6, True)
    assert (early.code, f"run {run_id} executes then" in early.err) == (6, True)
    assert (unknown.code, "did you mean look" in unknown.err) == (2, True)
    assert (aside.json["status"], aside.json["ready"]) == ("completed", [])
    assert done.json == {"todo": "look", "run_id": run_id}
    assert f"run {run_id} continues" in with_hours.err
    assert ended.code == 0, ended.err
    assert testbed.ok("show-todo", "then", "--json").json["actual_hours"] == 2
    again = testbed.coord("complete-todo", "look")
    assert (again.code, "look is completed already" in again.err) == (6, True)
