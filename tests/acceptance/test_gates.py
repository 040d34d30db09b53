"""Stories: gates, milestones and manual todos wait for people, hold nothing, and are decided once."""

from __future__ import annotations

import signal

import yaml

from tests.testbed import PLAN, Testbed
from tests.waiting import until

GATED = [
    {"id": "build", "repo": "api", "action": "echo build >> $LEDGER"},
    {
        "id": "ship",
        "repo": "api",
        "gate": {"timeout": "1h"},
        "action": "echo ship >> $LEDGER",
        "blocked_by": ["M1"],
    },
    {"id": "other", "repo": "api", "gate": True, "action": "echo other >> $LEDGER"},
]
MILESTONE = {"id": "M1", "name": "reviewed", "dependencies": ["build"], "gate": True}


def test_people_are_asked_once_whatever_is_killed_meanwhile(testbed: Testbed) -> None:
    testbed.write(GATED, plan={"milestones": [MILESTONE], "strategy": "levels"})
    watch = testbed.begin("sweep", PLAN)
    watch.says("other (do other) waits for an approval: coord approve other")
    until(lambda: testbed.todo("build")["state"] == "succeeded")
    run_id = testbed.run()["run_id"]

    testbed.kill("worker")
    testbed.kill("server")
    watch.send_signal(signal.SIGKILL)
    watch.wait()
    testbed.up()
    asked = testbed.ok("ecosystem", "status").out
    other = testbed.ok("approve", "other", "--comment", "looks right", "--json")
    until(lambda: testbed.todo("M1")["state"] == "parked")
    milestone = testbed.ok("approve", "M1")
    rejected = testbed.ok("run", "reject", "ship", "--run", run_id, "--comment", "not before Friday")
    ended = testbed.coord("watch", run_id, "--json")
    again = testbed.coord("approve", "ship")

    assert "coord approve other" in asked
    assert (other.json["verdict"], other.json["run_status"], other.json["comment"]) == (
        "approve",
        "running",
        "looks right",
    )
    assert f"M1 is approved; run {run_id} continues" in milestone.err
    assert f"ship is rejected; run {run_id} has ended: failed" in rejected.err
    assert (ended.code, ended.json["status"]) == (3, "failed")
    assert ended.states == {"build": "succeeded", "M1": "succeeded", "other": "succeeded", "ship": "failed"}
    assert f"other was approved by {other.json['by']}: looks right" in ended.err
    assert ended.todo("ship")["error"] == f"rejected by {other.json['by']}: not before Friday"
    assert (again.code, f"retry the run: coord retry {run_id}" in again.err) == (6, True)
    assert sorted(testbed.ledger) == ["build", "other"]
    (plan,) = yaml.safe_load(testbed.file.read_text())["coordination"]["plans"]
    assert plan["milestones"][0]["status"] == "completed"

    retry = testbed.begin("retry", run_id)
    retry.says("ship (do ship) waits for an approval")
    testbed.ok("approve", "ship")
    assert retry.done(60).code == 0
    assert sorted(testbed.ledger) == ["build", "other", "ship"]


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
    said = sweep.says("look (do look) waits for a person")
    until(lambda: testbed.todo("busy")["state"] == "running")
    run_id, waiting = testbed.run()["run_id"], testbed.todo("look")

    busy, early = testbed.coord("complete-todo", "busy"), testbed.coord("complete-todo", "then")
    unknown, aside = testbed.coord("complete-todo", "lock"), testbed.ok("complete-todo", "aside", "--json")
    done = testbed.ok("complete-todo", "look", "--run", run_id, "--json")
    sweep.says("then (do then) waits for a person")
    with_hours = testbed.ok("complete-todo", "then", "--hours", "2h")
    (testbed.folder / "ledger").touch()
    ended = sweep.done(60)

    assert "look (do look) waits for a person: coord todo complete look" in said
    assert (waiting["state"], waiting["waits_for"]) == ("parked", "a person: coord todo complete look")
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
