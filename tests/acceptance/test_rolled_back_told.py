"""Output of a rollback: before it, during it, when it is stuck, and when everything is undone."""

from __future__ import annotations

import signal

from coordination import Coord
from tests.acceptance.gate import Gate
from tests.stage import PLAN, Stage, git

DEPLOY = {"workspace": "in-place", "action": "echo deployed >> $LEDGER"}
WITHDRAW = "echo withdrawn >> $LEDGER"
NOT_YET = 'test -e ../mended || { echo "no such bucket"; exit 4; }'


def test_a_sweep_that_fails_is_undone_and_says_so(stage: Stage) -> None:
    stage.write(
        [
            {"id": "A", "repo": "api", "action": "echo a > a"},
            {"id": "B", "repo": "web", "blocked_by": ["A"], **DEPLOY, "compensate": WITHDRAW},
            {"id": "C", "repo": "api", "blocked_by": ["B"], "action": "exit 7"},
            {"id": "D", "repo": "api", "blocked_by": ["C"]},
        ],
        plan={"on_failure": "rollback"},
    )

    rehearsed = stage.ok("sweep", PLAN, "--dry-run")
    swept = stage.coord("sweep", PLAN)
    shown = stage.shown()
    run_id = shown.json["run_id"]

    assert WITHDRAW in rehearsed.out
    assert "the run's branch and worktree go" in rehearsed.out
    assert swept.code == 3
    assert "✗ C  api" in swept.err
    assert "↶ rolling back: C failed: exit code 7" in swept.err
    assert "↶ B  web  undone" in swept.err
    assert "all started todos were undone" in swept.err
    assert f"run {run_id} of {PLAN} rolled_back by levels" in swept.out
    assert shown.states == {"A": "compensated", "B": "compensated", "C": "compensated", "D": "skipped"}
    assert [shown.todo(t)["was"] for t in "ABC"] == ["succeeded", "succeeded", "failed"]
    assert stage.ledger == ["deployed", "withdrawn"]
    assert git(stage.folder / "api", "branch", "--list", "coord/*") == ""
    assert "status: completed" not in stage.file.read_text()


def test_a_finished_run_is_undone_and_what_cannot_be_is_seen_until_it_is(stage: Stage) -> None:
    gate = Gate(stage.folder)
    stage.write(
        [
            {"id": "A", "repo": "api", "action": "echo a > a"},
            {
                "id": "B",
                "repo": "web",
                "blocked_by": ["A"],
                **DEPLOY,
                "compensate": f"{NOT_YET}; {gate.action}; {WITHDRAW}",
            },
            {"id": "C", "repo": "api", "blocked_by": ["B"], "status": "completed", "actual_hours": 3},
        ]
    )
    stage.up()
    stage.ok("sweep", PLAN)
    run_id = stage.run()["run_id"]
    assert stage.file.read_text().count("status: completed") == 3

    stuck = stage.coord("rollback", run_id, "--yes")
    doctor = stage.coord("doctor")
    refusals = [
        stage.coord(*words)
        for words in (("retry", run_id), ("clean", run_id, "--yes"), ("rollback", run_id, "--accept", "B"),
                      ("rollback", run_id, "--accept", "A", "--reason", "x"))
    ]  # fmt: skip
    listed = stage.ok("list-runs")

    assert stuck.code == 3
    assert f"2 todos of run {run_id} in api, web: undone in reverse order" in stuck.err
    assert "✗ B  web  could not be undone: exit code 4" in stuck.err
    assert "  | no such bucket" in stuck.err
    assert f'coord rollback {run_id} --accept B --reason "…"' in stuck.err
    assert "rollback_failed" in listed.out
    assert (doctor.code, f"run {run_id} of {PLAN} is half undone: B could not be undone" in doctor.out) == (
        1,
        True,
    )
    assert [refused.code for refused in refusals] == [6, 6, 2, 6]
    assert stage.file.read_text().count("status: completed") == 3

    (stage.folder / "mended").touch()
    following = stage.begin("rollback", run_id, "--yes")
    gate.wait()
    going = stage.shown(run_id)
    refused = stage.coord("cancel", run_id)
    following.send_signal(signal.SIGINT)
    left = following.done()

    assert (going.json["status"], going.states["B"]) == ("rolling_back", "compensating")
    assert refused.code == 6
    assert f"run {run_id} cannot be cancelled: it is being rolled back, and cannot turn back" in refused.err
    assert (left.code, f"the rollback continues; follow it: coord watch {run_id}" in left.err) == (130, True)

    again = stage.begin("rollback", run_id, "--yes", "--json")
    assert again.says("is being rolled back already")
    gate.open()
    undone = again.done()
    with Coord(stage.file) as coord:
        once_more = coord.runs.rollback(run_id).wait(30)

    assert (undone.code, undone.json["status"], once_more.status) == (0, "rolled_back", "rolled_back")
    assert undone.states == {"A": "compensated", "B": "compensated"}
    assert f"run {run_id} was rolled back already" in stage.ok("rollback", run_id).err
    assert stage.ledger == ["deployed", "withdrawn"]
    text = stage.file.read_text()
    assert (text.count("status: completed"), text.count("status: pending"), text.count("actual_hours")) == (
        1,
        2,
        1,
    )
    assert git(stage.folder / "api", "branch", "--list", "coord/*") == ""
