"""Gates in a real ecosystem: two todos and a milestone wait for people, hold nothing, outlive everything, and
are decided once.
"""

from __future__ import annotations

import signal

import yaml

from tests.stage import PLAN, Stage
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


def test_people_are_asked_once_whatever_is_killed_meanwhile(stage: Stage) -> None:
    stage.write(GATED, plan={"milestones": [MILESTONE], "strategy": "levels"})
    watch = stage.begin("sweep", PLAN)
    watch.says("other waits for an approval: coord approve other")
    until(lambda: stage.todo("build")["state"] == "succeeded")
    run_id = stage.run()["run_id"]

    stage.kill("worker")
    stage.kill("server")
    watch.send_signal(signal.SIGKILL)
    watch.wait()
    stage.up()
    asked = stage.ok("ecosystem-status").out
    other = stage.ok("approve", "other", "--comment", "looks right", "--json")
    until(lambda: stage.todo("M1")["state"] == "parked")
    milestone = stage.ok("approve", "M1")
    rejected = stage.ok("reject", "ship", "--run", run_id, "--comment", "not before Friday")
    ended = stage.coord("watch", run_id, "--json")
    again = stage.coord("approve", "ship")

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
    assert sorted(stage.ledger) == ["build", "other"]
    (plan,) = yaml.safe_load(stage.file.read_text())["coordination"]["plans"]
    assert plan["milestones"][0]["status"] == "completed"

    retry = stage.begin("retry", run_id)
    retry.says("ship waits for an approval")
    stage.ok("approve", "ship")
    assert retry.done(60).code == 0
    assert sorted(stage.ledger) == ["build", "other", "ship"]
