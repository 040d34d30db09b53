"""A manual todo waits for a person, holds no worker, and goes on when somebody says that it is done."""

from __future__ import annotations

from tests.testbed import PLAN, Testbed
from tests.waiting import until


def test_a_manual_todo_waits_until_a_person_completes_it_in_its_run(testbed: Testbed) -> None:
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
    said = sweep.says("look waits for a person")
    until(lambda: testbed.todo("busy")["state"] == "running")
    run_id, waiting = testbed.run()["run_id"], testbed.todo("look")

    busy, early = testbed.coord("complete-todo", "busy"), testbed.coord("complete-todo", "then")
    unknown, aside = testbed.coord("complete-todo", "lock"), testbed.ok("complete-todo", "aside", "--json")
    done = testbed.ok("complete-todo", "look", "--run", run_id, "--json")
    sweep.says("then waits for a person")
    with_hours = testbed.ok("complete-todo", "then", "--hours", "2h")
    (testbed.folder / "ledger").touch()
    ended = sweep.done(60)

    assert "look waits for a person: coord complete-todo look" in said
    assert (waiting["state"], waiting["waits_for"]) == ("parked", "a person: coord complete-todo look")
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
