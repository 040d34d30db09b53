"""Gates in a real ecosystem: two todos and a milestone wait for people, hold nothing, outlive everything, and
are decided once.
"""

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
    watch.says("other waits for an approval: coord approve other")
    until(lambda: testbed.todo("build")["state"] == "succeeded")
    run_id = testbed.run()["run_id"]

    testbed.kill("worker")
    testbed.kill("server")
    watch.send_signal(signal.SIGKILL)
    watch.wait()
    testbed.up()
    asked = testbed.ok("ecosystem-status").out
    other = testbed.ok("approve", "other", "--comment", "looks right", "--json")
    until(lambda: testbed.todo("M1")["state"] == "parked")
    milestone = testbed.ok("approve", "M1")
    rejected = testbed.ok("reject", "ship", "--run", run_id, "--comment", "not before Friday")
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
    retry.says("ship waits for an approval")
    testbed.ok("approve", "ship")
    assert retry.done(60).code == 0
    assert sorted(testbed.ledger) == ["build", "other", "ship"]
